import pytest
import torch
from selftune.objectives.solvers.sinkhorn import sinkhorn


@pytest.fixture
def problem():
    generator = torch.Generator().manual_seed(0)
    cost = torch.rand(4, 5, dtype=torch.float64, generator=generator)
    source = torch.tensor([0.1, 0.2, 0.3, 0.4], dtype=torch.float64)
    return cost, source, torch.full((5,), 0.2, dtype=torch.float64)


def test_marginals(problem):
    cost, source, target = problem
    plan = sinkhorn(cost, source, target, epsilon=0.1, iterations=1000)
    torch.testing.assert_close(plan.sum(1), source)
    torch.testing.assert_close(sinkhorn(cost, source, target, iterations=1).sum(0), target)  # exact at any time


def test_is_the_minimiser(problem):
    cost, source, target = problem
    plan = sinkhorn(cost, source, target, epsilon=0.2, iterations=1000)

    def energy(plan):
        return (plan * cost).sum() + 0.2 * (plan * (plan / (source[:, None] * target)).log()).sum()

    change = torch.zeros_like(plan)
    change[0, 0] = change[2, 3] = 1e-4
    change[0, 3] = change[2, 0] = -1e-4  # keeps the marginals
    assert energy(plan) < energy(plan + change)
    assert energy(plan) < energy(plan - change)


def test_large_epsilon_gives_the_product_of_the_marginals(problem):
    cost, source, target = problem
    torch.testing.assert_close(sinkhorn(cost, source, target, epsilon=1e8), source[:, None] * target)


def test_adding_to_rows_and_columns_of_the_cost_changes_nothing(problem):
    cost, source, target = problem
    more = cost + torch.arange(4)[:, None] + 0.5 * torch.arange(5)
    settings = {"epsilon": 0.2, "iterations": 2000}
    torch.testing.assert_close(
        sinkhorn(more, source, target, **settings), sinkhorn(cost, source, target, **settings)
    )


def test_permuted_rows_permute_the_plan(problem):
    cost, source, target = problem
    order = torch.tensor([2, 0, 3, 1])
    torch.testing.assert_close(sinkhorn(cost[order], source[order], target), sinkhorn(cost, source, target)[order])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_small_epsilon_does_not_overflow(problem, dtype):
    plan = sinkhorn(*(each.to(dtype) for each in problem), epsilon=1e-3)
    assert plan.dtype == dtype
    assert plan.isfinite().all()
    torch.testing.assert_close(plan.sum(0), problem[2].to(dtype), rtol=1e-3, atol=0)


def test_the_plan_is_a_constant(problem):
    cost = problem[0].requires_grad_()
    assert not sinkhorn(cost, *problem[1:], epsilon=torch.tensor(0.1)).requires_grad
