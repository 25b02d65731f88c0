import pytest
import torch
from rounding import rounding
from selftune.objectives.regularizers.dynamics.tikhonov import tikhonov


def test_denoising_minimiser(draw):
    y, strength = draw(2, 1, 3, 4), 0.7
    x = (y / (1 + strength)).requires_grad_()
    loss = 0.5 * (x - y).square().sum() + strength * tikhonov(x).sum()
    (gradient,) = torch.autograd.grad(loss, x)
    assert gradient.abs().max() < rounding()


def test_identity_has_the_gradient_x(draw):
    x = draw(2, 3, 4, 5).requires_grad_()
    (gradient,) = torch.autograd.grad(tikhonov(x).sum(), x)
    torch.testing.assert_close(gradient, x.detach())


def test_differences_inside_the_image(draw):
    x = draw(2, 1, 3, 4)
    expected = 0.5 * ((x[:, :, 1:] - x[:, :, :-1]) ** 2).sum((1, 2, 3))
    expected = expected + 0.5 * ((x[..., 1:] - x[..., :-1]) ** 2).sum((1, 2, 3))
    torch.testing.assert_close(tikhonov(x, operator="gradient"), expected)
    torch.testing.assert_close(tikhonov(x + 3, operator="gradient"), expected)
    assert not tikhonov(torch.ones(1, 2, 3, 3), operator="gradient").any()


@pytest.mark.parametrize("operator", ["identity", "gradient"])
def test_is_quadratic_and_per_image(draw, operator):
    x = draw(3, 2, 3, 3)
    value = tikhonov(x, operator=operator)
    torch.testing.assert_close(tikhonov(2 * x, operator=operator), 4 * value)
    torch.testing.assert_close(tikhonov(x[1:2], operator=operator), value[1:2])
    assert torch.autograd.gradcheck(lambda x: tikhonov(x, operator=operator), (x[:1].requires_grad_(),))


def test_refuses_another_operator():
    with pytest.raises(ValueError, match="operator must be"):
        tikhonov(torch.ones(1, 1, 2, 2), operator="laplace")
