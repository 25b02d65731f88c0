import torch
from selftune.objectives.optimal_transport import log_density, potentials


def test_potentials_satisfy_both_marginals():
    generator = torch.Generator().manual_seed(0)
    cost = torch.rand(3, 4, dtype=torch.float64, generator=generator).requires_grad_()
    source, target = torch.tensor([0.2, 0.3, 0.5]).double(), torch.full((4,), 0.25).double()
    f, g = potentials(cost, source, target, 0.3, 500)
    plan = source[:, None] * target * log_density(cost, f, g, 0.3).exp()
    torch.testing.assert_close(plan.sum(0), target)
    torch.testing.assert_close(plan.sum(1), source)
    assert not plan.requires_grad
