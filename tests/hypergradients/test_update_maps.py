import pytest
import torch
from problems import PROBLEMS, normal

from selftune.hypergradients.implicit import implicit_hypergradient
from selftune.hypergradients.linear_solvers import NeumannSeries
from selftune.hypergradients.update_maps import DifferentiableMap, GradientStep


def gradient_map(oracle, length):
    """The gradient step as plain differentiable code."""

    def step(x, u):
        values = oracle.space.values(u)
        return x - length * oracle.ravel(oracle.objective.lower_gradient(oracle.unravel(x), values))

    return step


@pytest.mark.parametrize("make", PROBLEMS.values(), ids=PROBLEMS)
@pytest.mark.parametrize("terms", [1, 2, 7, 40])
def test_neumann_terms_equal_reverse_steps_from_the_fixed_point(make, terms):
    problem = make()
    u = problem.start(0)
    oracle, x = problem.oracle, problem.minimiser(u)
    length = 1 / oracle.constants(u).smoothness
    step = GradientStep(oracle, length)
    _, q = oracle.upper_value_and_grad(x, u)
    unrolled = oracle.upper_grad_u(x, u)
    for _ in range(terms):
        unrolled, q = unrolled + step.pull_u(x, u, q), step.pull_x(x, u)(q)
    series = implicit_hypergradient(oracle, x, u, NeumannSeries(length, max_products=terms), 1e-12)
    assert series.reason == "cap"
    assert float((series.value - unrolled).norm() / unrolled.norm()) < 1e-10


@pytest.mark.parametrize("make", PROBLEMS.values(), ids=PROBLEMS)
def test_pulls_are_the_adjoints_of_push_and_both_maps_agree(make):
    problem = make()
    oracle, u = problem.oracle, problem.start(0)
    x, q, tangents = normal(1, oracle.n), normal(2, oracle.n), normal(3, oracle.n, oracle.d)
    counted, plain = GradientStep(oracle, 0.3), DifferentiableMap(gradient_map(oracle, 0.3))
    for update in (counted, plain):
        pulled = tangents.T @ update.pull_x(x, u)(q) + update.pull_u(x, u, q)
        torch.testing.assert_close(update.push(x, u, tangents).T @ q, pulled, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(counted(x, u), plain(x, u))
    torch.testing.assert_close(counted.push(x, u, tangents), plain.push(x, u, tangents))


def test_gradients_inside_a_map_may_come_from_torch_func():
    def step(x, u):
        return x - 0.1 * torch.func.grad(lambda at: (at.square() * u.exp()).sum())(x)

    update = DifferentiableMap(step)
    x, u = normal(0, 3), normal(1, 1)
    torch.testing.assert_close(update.pull_u(x, u, torch.ones_like(x)), -0.2 * (x.sum() * u.exp()))
    torch.testing.assert_close(update.pull_x(x, u)(x), x - 0.2 * u.exp() * x)
