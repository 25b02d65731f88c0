import torch
from rounding import squared_rounding
from selftune.objectives.regularizers.adaptation.inter_environment_gradient_alignment import (
    inter_environment_gradient_alignment,
)


def test_definition_and_translation(draw):
    gradients = draw(3, 5)
    mean = gradients.sum(0) / 3
    expected = sum((g - mean) @ (g - mean) for g in gradients) / 3
    torch.testing.assert_close(inter_environment_gradient_alignment(gradients), expected)
    torch.testing.assert_close(inter_environment_gradient_alignment(gradients + draw(5)), expected)
    equal = gradients[:1].expand(4, 5)
    nothing = squared_rounding(equal.abs().max(), terms=5)
    assert inter_environment_gradient_alignment(equal).item() < nothing


def test_gradient(draw):
    gradients = draw(3, 5).requires_grad_()
    (slope,) = torch.autograd.grad(inter_environment_gradient_alignment(gradients), gradients)
    torch.testing.assert_close(slope, (2 * (gradients - gradients.mean(0)) / 3).detach())
