import math

import pytest
import torch
from selftune.objectives.functional import dropout, gaussian_dropout

pytestmark = pytest.mark.usefixtures("double")


@pytest.mark.parametrize("rate", [0.1, 0.5, 0.8])
def test_factors_have_the_mean_and_variance_of_dropout(rate):
    number = 200_000
    ones, generator = torch.ones(number), torch.Generator().manual_seed(0)
    gaussian = gaussian_dropout(ones, torch.randn(number, generator=generator), rate)
    zeroed = dropout(ones, torch.rand(number, generator=generator), rate)
    deviation = math.sqrt(rate / (1 - rate))
    for factors in (gaussian, zeroed):
        assert abs(float(factors.mean()) - 1) < 4 * deviation / math.sqrt(number)
        assert abs(float(factors.std()) / deviation - 1) < 0.03


def test_the_derivative_of_the_expected_loss_in_the_rate_is_that_of_the_variance():
    """For a square, as for dropout: E (x f)² = x² / (1 - rate), with derivative x² / (1 - rate)²."""
    rate = torch.tensor(0.3, requires_grad=True)
    noise = torch.randn(400_000, generator=torch.Generator().manual_seed(0))
    loss = gaussian_dropout(torch.full_like(noise, 2.0), noise, rate).square().mean()
    (slope,) = torch.autograd.grad(loss, rate)
    assert abs(float(slope) / (4 / 0.7**2) - 1) < 0.03


def test_rates_broadcast():
    inputs, noise = torch.ones(2, 3), torch.ones(2, 3)
    found = gaussian_dropout(inputs, noise, torch.tensor([[0.0, 0.5, 0.8]]))
    torch.testing.assert_close(found, torch.tensor([1.0, 2.0, 3.0]).expand(2, 3))
