from itertools import pairwise

import pytest
import torch
import torch.nn.functional as F
from rounding import rounding

from selftune.errors import SettingError
from selftune.hypergradients.linear_solvers import GradientNormalizedNewton
from selftune.hypergradients.linear_solvers.gradient_normalized_newton import (
    gradient_normalized_acceptance,
    gradient_normalized_newton,
    minimize,
)

D = 10


def normal(seed, *shape):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def quadratic():
    root = normal(0, D, D)
    return root @ root.T / D + 0.1 * torch.eye(D, dtype=torch.float64), normal(1, D)


def functions(objective):
    """Value with gradient, and Hessian products, of a scalar function."""
    gradient = torch.func.grad(objective)

    def product(x):
        return lambda v: torch.func.jvp(gradient, (x,), (v,))[1]

    return (lambda x: (objective(x), gradient(x))), product


def test_a_large_radius_is_newton_and_a_small_one_a_normalised_gradient_step():
    matrix, g = quadratic()
    newton = -torch.linalg.solve(matrix, g)
    torch.testing.assert_close(gradient_normalized_newton(g, matrix, radius=1e12), newton)
    step = gradient_normalized_newton(g, matrix, radius=1e-7, epsilon=0.0)
    torch.testing.assert_close(step, -1e-7 * g / g.norm(), rtol=1e-5, atol=0)


@pytest.mark.parametrize("radius", [1e-3, 0.1, 1.0, 30.0])
def test_steps_stay_in_the_radius(radius):
    for seed in range(20):
        root = normal(seed, D, 3)  # singular: positive semi-definite
        step = gradient_normalized_newton(normal(seed + 1, D), root @ root.T, radius=radius)
        assert float(step.norm()) <= radius + 1e-8


def test_the_radius_doubles_or_halves_and_has_a_minimum():
    value, g = torch.tensor(1.0), torch.ones(2)
    accepted, radius = gradient_normalized_acceptance(value, value - 1, g, 0.1 * g, radius=3.0)
    assert (bool(accepted), float(radius)) == (True, 6.0)
    accepted, radius = gradient_normalized_acceptance(value, value + 1, g, 0.1 * g, radius=3.0)
    assert (bool(accepted), float(radius)) == (False, 1.5)
    _, radius = gradient_normalized_acceptance(value, value - 1, g, 0.1 * g, radius=1e-12)
    assert float(radius) == pytest.approx(1e-9)
    bad = torch.tensor(float("nan"))
    assert not bool(gradient_normalized_acceptance(value, bad, g, g * bad, radius=1.0)[0])


def logistic():
    inputs = normal(3, 200, D)
    labels = torch.where(inputs @ normal(4, D) + normal(5, 200) > 0, 1.0, -1.0)
    return lambda w: F.softplus(-labels * (inputs @ w)).mean() + 5e-4 * w.square().sum()


def test_logistic_regression_within_fifteen_steps():
    x, history = minimize(*functions(logistic()), torch.zeros(D, dtype=torch.float64))
    assert history[-1].gradient_norm < 1e-8
    assert float(torch.func.grad(logistic())(x).norm()) < 1e-8
    assert len(history) <= 15


def test_accepted_steps_lower_the_function_enough():
    value_and_gradient, product = functions(logistic())
    start = torch.full((D,), 3.0, dtype=torch.float64)
    value, gradient = value_and_gradient(start)
    size = gradient.norm()
    _, history = minimize(value_and_gradient, product, start, radius=50.0)
    for step in history:
        needed = step.gradient_norm**2 * step.radius / (8 * size)
        assert value - step.value >= needed - rounding(value)
        value, size = step.value, step.gradient_norm


def test_a_function_that_is_not_convex_is_descended_past_negative_curvature():
    def double_well(x):
        return (x.square() - 1).square().sum() + 0.1 * x.sum()

    start = torch.tensor([0.01, -0.02, 1.5], dtype=torch.float64)
    x, history = minimize(*functions(double_well), start)
    assert history[-1].gradient_norm < 1e-8
    assert float(torch.func.hessian(double_well)(x).diagonal().min()) > 0
    values = [float(double_well(start)), *(step.value for step in history)]
    assert all(later <= earlier + rounding(max(map(abs, values))) for earlier, later in pairwise(values))


def test_a_function_without_progress_ends_the_search():
    x, history = minimize(lambda x: (x.sum() * 0, torch.ones_like(x)), lambda x: lambda v: v, torch.zeros(2))
    assert history == []
    assert not x.any()


def test_linear_systems_near_singularity():
    eigenvalues = torch.logspace(-9, 0, 30, dtype=torch.float64)
    b = torch.ones(30, dtype=torch.float64)
    solution = GradientNormalizedNewton().solve(lambda v: eigenvalues * v, b, tolerance=1e-4)
    assert solution.reason == "tolerance"
    assert float((b - eigenvalues * solution.x).norm()) <= 1e-4


def test_bad_settings_are_refused():
    with pytest.raises(SettingError, match="radius"):
        GradientNormalizedNewton(radius=0.0)
    with pytest.raises(SettingError, match="grad_tol"):
        minimize(lambda x: (x.sum(), x), lambda x: lambda v: v, torch.zeros(2), grad_tol=0.0)
