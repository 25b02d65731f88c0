import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from selftune.hyperparameters import Choice, Integer, Interval, Positive, Unit

FINITE = {
    "unit": (Unit(), 1e-4, 1 - 1e-4),
    "interval": (Interval(-3.0, 7.0), -2.99, 6.99),
    "low": (Interval(low=2.0), 2.001, 1e4),
    "high": (Interval(high=-1.0), -1e4, -1.001),
    "real": (Interval(), -1e4, 1e4),
    "positive": (Positive(), 1e-30, 1e30),
}


@pytest.mark.parametrize("case", FINITE)
@given(fraction=st.floats(0, 1))
def test_constrain_inverts_unconstrain_over_the_whole_range_in_float32(case, fraction):
    domain, low, high = FINITE[case]
    if case == "positive":  # log-uniformly: its range spans sixty orders of magnitude
        value = math.exp(math.log(low) + fraction * (math.log(high) - math.log(low)))
    else:
        value = low + fraction * (high - low)
    x = torch.tensor(value, dtype=torch.float32)
    back = domain.constrain(domain.unconstrain(x))
    # a softplus or sigmoid cannot resolve a distance to the bound below float32's rounding of the value
    torch.testing.assert_close(back, x, rtol=1e-5, atol=2e-6)


@pytest.mark.parametrize("case", FINITE)
def test_extreme_coordinates_stay_finite_and_inside(case):
    domain, _, _ = FINITE[case]
    limit = 80.0 if case == "positive" else 1e4
    values = domain.constrain(torch.tensor([-limit, -20.0, 0.0, 20.0, limit]))
    assert torch.isfinite(values).all()
    assert all(domain.contains(float(v)) for v in values)


@pytest.mark.parametrize("case", FINITE)
def test_transforms_match_finite_differences(case):
    domain, _, _ = FINITE[case]
    u = torch.linspace(-3, 3, 7, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(domain.constrain, (u,))


def test_integer_reaches_both_ends_and_inverts_every_value():
    domain = Integer(2, 24)
    values = torch.arange(2.0, 25.0)
    assert torch.equal(domain.constrain(domain.unconstrain(values)), values)
    assert domain.constrain(torch.tensor([-1e4, 1e4])).tolist() == [2.0, 24.0]


@pytest.mark.parametrize(
    ("domain", "inside", "outside"),
    [
        (Unit(), [0, 0.5, 1], [-0.1, 1.1, math.nan, True, "0.5", math.inf]),
        (Positive(), [0.0, 1e-9, 1e9], [-1e-9, math.inf, None]),
        (Integer(1, 3), [1, 2.0, 3], [0, 4, 1.5]),
        (Choice(("a", 1, False)), ["a", 1, False], ["b", True, 0]),
    ],
)
def test_contains(domain, inside, outside):
    assert all(domain.contains(value) for value in inside)
    assert not any(domain.contains(value) for value in outside)


def test_bounds_are_no_place_to_start_tuning():
    assert not Unit().is_interior(0.0)
    assert not Unit().is_interior(1.0)
    assert not Positive().is_interior(0.0)
    assert not Choice(("a",)).is_interior("a")


@pytest.mark.parametrize(
    "make",
    [
        lambda: Interval(1.0, 1.0),
        lambda: Integer(3, 3),
        lambda: Positive(sweep=(0.0, 1.0)),
        lambda: Choice(()),
    ],
)
def test_domains_without_room_are_refused(make):
    with pytest.raises(ValueError, match="needs"):
        make()


def test_unbounded_interval_needs_a_sweep_to_be_searched():
    with pytest.raises(ValueError, match="sweep"):
        Interval(low=0.0).to_optuna()
    assert Interval(low=0.0, sweep=(0.0, 2.0)).to_optuna().high == 2.0
