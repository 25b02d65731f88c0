import pytest
import torch

from selftune.errors import SettingError
from selftune.hypergradients.linear_solvers import NegativeCurvature, NeumannSeries

EIGENVALUES = torch.linspace(0.1, 2.0, 12, dtype=torch.float64)
B = torch.ones(12, dtype=torch.float64)


def product(v):
    return EIGENVALUES * v


@pytest.mark.parametrize("terms", [1, 2, 5, 20])
def test_k_products_give_k_terms_and_their_residual(terms):
    solution = NeumannSeries(0.5, max_products=terms).solve(product, B, tolerance=1e-12)
    series = sum(0.5 * (1 - 0.5 * EIGENVALUES) ** k for k in range(terms))
    torch.testing.assert_close(solution.x, series)
    torch.testing.assert_close(solution.residual, float(((1 - 0.5 * EIGENVALUES) ** terms).norm()))
    assert (solution.products, solution.reason) == (terms, "cap")


def test_a_start_continues_the_series():
    first = NeumannSeries(0.5, max_products=5).solve(product, B, tolerance=1e-12)
    then = NeumannSeries(0.5, max_products=5).solve(product, B, tolerance=1e-12, start=first.x)
    whole = NeumannSeries(0.5, max_products=9).solve(product, B, tolerance=1e-12)
    torch.testing.assert_close(then.x, whole.x)  # one product went into the start's residual


def test_a_step_too_long_is_refused_with_one_that_is_not():
    with pytest.raises(SettingError, match=r"step: is 1.5, too long .* use at most 0\.\d+"):
        NeumannSeries(1.5).solve(product, B, tolerance=1e-6)


def test_negative_curvature_raises():
    with pytest.raises(NegativeCurvature):
        NeumannSeries(0.5).solve(lambda v: -0.1 * v, B, tolerance=1e-6)


@pytest.mark.parametrize("step", [0.0, -1.0, float("nan"), float("inf")])
def test_bad_steps_are_refused(step):
    with pytest.raises(SettingError, match="step"):
        NeumannSeries(step)
