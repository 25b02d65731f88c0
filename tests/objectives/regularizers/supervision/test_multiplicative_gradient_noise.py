import pytest
import torch
from selftune.objectives.functional import multiplicative_gradient_noise

from selftune.regularization.regularizer import regularizers

pytestmark = pytest.mark.usefixtures("double")


def test_without_noise_it_is_the_mean():
    gradients = torch.randn(5, 3)
    out = multiplicative_gradient_noise(gradients, torch.randn(5), 0.0)
    torch.testing.assert_close(out, gradients.mean(dim=0))


def test_mean_and_covariance():
    gradients, sigma = torch.randn(4, 2), 0.7
    # the images of unit vectors show the linear map of the noise, so mean and covariance are exact
    mean = multiplicative_gradient_noise(gradients, torch.zeros(4), sigma)
    columns = [multiplicative_gradient_noise(gradients, unit, sigma) - mean for unit in torch.eye(4)]
    torch.testing.assert_close(mean, gradients.mean(dim=0))
    covariance = torch.stack(columns).T @ torch.stack(columns)
    torch.testing.assert_close(covariance, sigma**2 / 4**2 * gradients.T @ gradients)


def test_is_the_gradient_of_the_weighted_loss():
    x, y, w = torch.randn(6, 3), torch.randn(6), torch.randn(3, requires_grad=True)
    noise = torch.randn(6)
    losses = 0.5 * (x @ w - y).square()
    (expected,) = torch.autograd.grad(((1 + 0.5 * noise) * losses).mean(), w)
    gradients = ((x @ w - y)[:, None] * x).detach()
    torch.testing.assert_close(multiplicative_gradient_noise(gradients, noise, 0.5), expected)
    sigmas = torch.full((6,), 0.5)
    torch.testing.assert_close(multiplicative_gradient_noise(gradients, noise, sigmas), expected)


def test_no_noise_is_plain_training(lab):
    trainer = lab.train([regularizers["multiplicative_gradient_noise"](sigma=0.0)], 4)
    assert torch.equal(lab.weights(trainer), lab.weights(lab.train([], 4)))
