import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from selftune.errors import SettingError
from selftune.methods import Ball, Box, Simplex

N = 6
SETS = {
    "box": Box(-0.5, 0.8),
    "box_per_entry": Box((-1.0, -math.inf, 0.0, 0.2, -3.0, -math.inf), (1.0, 0.0, 0.0, 0.3, math.inf, math.inf)),
    "ball": Ball(0.7),
    "ball_elsewhere": Ball(1.3, center=(1.0, -2.0, 0.0, 0.5, 3.0, 0.1)),
    "simplex": Simplex(),
    "simplex_of_groups": Simplex(total=2.5, group=3),
}


def inside(constraint, u, slack=1e-9):
    if isinstance(constraint, Box):
        low, high = (torch.as_tensor(side, dtype=u.dtype) for side in (constraint.low, constraint.high))
        return bool(((u >= low - slack) & (u <= high + slack)).all())
    if isinstance(constraint, Ball):
        center = torch.as_tensor(constraint.center, dtype=u.dtype)
        return float((u - center).norm()) <= constraint.radius + slack
    sums = u.view(-1, constraint.group or N).sum(dim=1)
    return float(u.min()) >= -slack and float((sums - constraint.total).abs().max()) <= slack


def normal(seed, scale=2.0):
    return scale * torch.randn(N, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


vectors = st.lists(st.floats(-50, 50), min_size=N, max_size=N).map(lambda v: torch.tensor(v, dtype=torch.float64))
every_set = pytest.mark.parametrize("constraint", SETS.values(), ids=SETS)


@every_set
@given(vectors)
def test_projections_lie_in_the_set_and_stay_where_they_are(constraint, u):
    kept = u.clone()
    projected = constraint(u)
    assert inside(constraint, projected)
    torch.testing.assert_close(constraint(projected), projected, rtol=1e-12, atol=1e-12)
    assert torch.equal(u, kept)


@every_set
@given(vectors, vectors)
def test_projections_bring_points_no_further_apart(constraint, u, v):
    assert float((constraint(u) - constraint(v)).norm()) <= float((u - v).norm()) + 1e-9


@every_set
@pytest.mark.parametrize("seed", range(5))
def test_no_point_of_the_set_is_nearer(constraint, seed):
    u = normal(seed)
    projected = constraint(u)
    distance = float((u - projected).norm())
    for attempt in range(300):
        scale = (2.0, 0.1, 1e-3)[attempt % 3]
        other = constraint(projected + normal(1000 * seed + attempt, scale))
        assert float((u - other).norm()) >= distance - 1e-12
        # the same as an angle: what was taken off points away from the set
        assert float((u - projected) @ (other - projected)) <= 1e-9


@every_set
def test_a_point_of_the_set_is_its_own_projection(constraint):
    u = constraint(normal(3))
    torch.testing.assert_close(constraint(u), u, rtol=1e-12, atol=1e-12)
    assert constraint(u.float()).dtype == torch.float32


def test_a_simplex_of_one_entry_is_a_point():
    assert Simplex(total=3.0, group=1)(torch.tensor([-5.0, 0.0, 7.0])).tolist() == [3.0, 3.0, 3.0]


@pytest.mark.parametrize(
    ("make", "key"),
    [
        (lambda: Box(1.0, 0.0), "high"),
        (lambda: Box((0.0, 0.0), (1.0, 1.0, 1.0)), "high"),
        (lambda: Box((0.0, 2.0), 1.0), "high"),
        (lambda: Box(math.nan, 1.0), "low"),
        (lambda: Ball(0.0), "radius"),
        (lambda: Ball(math.inf), "radius"),
        (lambda: Ball(1.0, center=math.nan), "center"),
        (lambda: Simplex(total=0.0), "total"),
        (lambda: Simplex(group=0), "group"),
        (lambda: Simplex(group=4)(torch.zeros(N)), "group"),
        (lambda: Box((0.0, 0.0), 1.0)(torch.zeros(N)), "low"),
        (lambda: Ball(1.0, center=(0.0, 0.0))(torch.zeros(N)), "center"),
    ],
)
def test_sets_that_make_no_sense_are_refused(make, key):
    with pytest.raises(SettingError) as error:
        make()
    assert error.value.key == key
