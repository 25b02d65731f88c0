import torch
from selftune.objectives.mathematics.optimal_transport import log_density, mean_cost, potentials, squared_distances


def test_potentials_satisfy_both_marginals():
    generator = torch.Generator().manual_seed(0)
    cost = torch.rand(3, 4, dtype=torch.float64, generator=generator).requires_grad_()
    source, target = torch.tensor([0.2, 0.3, 0.5]).double(), torch.full((4,), 0.25).double()
    f, g = potentials(cost, source, target, 0.3, 500)
    plan = source[:, None] * target * log_density(cost, f, g, 0.3).exp()
    torch.testing.assert_close(plan.sum(0), target)
    torch.testing.assert_close(plan.sum(1), source)
    assert not plan.requires_grad


def test_squared_distances_far_from_the_origin():
    generator = torch.Generator().manual_seed(0)
    x, y = torch.randn(5, 3, generator=generator), torch.randn(4, 3, generator=generator)
    expected = (x[:, None] - y).square().sum(-1)
    torch.testing.assert_close(squared_distances(x + 100, y + 100), expected, atol=1e-4, rtol=1e-4)


def test_the_unit_of_epsilon_is_positive():
    assert mean_cost(torch.zeros(2, 2)) > 0
    assert mean_cost(torch.tensor([[1.0, 3.0]], requires_grad=True)).requires_grad is False
