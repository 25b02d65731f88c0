from itertools import permutations

import pytest
import torch
from selftune.objectives.mathematics.optimal_transport import potentials
from selftune.objectives.regularizers.dynamics.entropic_transport_cost import entropic_transport_cost
from selftune.objectives.solvers.sinkhorn import sinkhorn


@pytest.fixture
def problem(draw):
    return draw(4, 5).abs(), torch.softmax(draw(4), 0), torch.softmax(draw(5), 0)


def test_primal_and_dual_values_agree(problem):
    cost, a, b = problem
    plan = sinkhorn(*problem, epsilon=0.3, iterations=1000)
    primal = (plan * cost).sum() + 0.3 * (plan * (plan / (a[:, None] * b)).log()).sum()
    f, g = potentials(*problem, 0.3, 1000)
    value = entropic_transport_cost(*problem, epsilon=0.3, iterations=1000)
    torch.testing.assert_close(value, primal)
    torch.testing.assert_close(value, a @ f + b @ g)


def test_gradients_are_those_of_the_converged_value(problem):
    cost = problem[0].requires_grad_()
    logits = [each.log().requires_grad_() for each in problem[1:]]
    epsilon = torch.tensor(0.5, dtype=torch.float64, requires_grad=True)

    def value(cost, a, b, epsilon):
        marginals = torch.softmax(a, 0), torch.softmax(b, 0)
        return entropic_transport_cost(cost, *marginals, epsilon=epsilon, iterations=500)

    assert torch.autograd.gradcheck(value, (cost, *logits, epsilon))
    (gradient,) = torch.autograd.grad(value(cost, *logits, epsilon), cost)
    torch.testing.assert_close(gradient, sinkhorn(*problem, epsilon=0.5, iterations=500))


def test_small_epsilon_gives_the_best_assignment(draw):
    cost, uniform = draw(4, 4).abs(), torch.full((4,), 0.25, dtype=torch.float64)
    best = min(sum(cost[i, j] for i, j in enumerate(order)) / 4 for order in permutations(range(4)))
    value = entropic_transport_cost(cost, uniform, uniform, epsilon=1e-3, iterations=5000)
    assert value.item() == pytest.approx(best.item(), abs=5e-3)


def test_grows_with_epsilon(problem):
    values = [entropic_transport_cost(*problem, epsilon=e, iterations=2000) for e in (0.05, 0.2, 1.0, 5.0)]
    assert values == sorted(values)
