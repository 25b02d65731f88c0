import torch
from selftune.objectives.mathematics.smoothed_absolute import safe_root, smoothed_absolute


def test_derivatives_away_from_zero():
    x = torch.tensor([-1.3, 0.0, 0.4], dtype=torch.float64, requires_grad=True)
    smoothing = torch.tensor(0.3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(smoothed_absolute, (x, smoothing))
    assert torch.autograd.gradgradcheck(smoothed_absolute, (x, smoothing))


def test_both_derivatives_at_zero_are_finite():
    x = torch.zeros(3, requires_grad=True)
    (slope,) = torch.autograd.grad(safe_root(x.square()).sum(), x, create_graph=True)
    (curvature,) = torch.autograd.grad(slope.sum(), x)
    assert not slope.any()
    assert not curvature.any()
