import pytest
import torch
from problems import PROBLEMS, normal
from test_unrolling import gradient_map

from selftune.hypergradients.update_maps import DifferentiableMap, GradientStep


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
