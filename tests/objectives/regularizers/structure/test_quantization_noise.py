import pytest
import torch
from selftune.objectives.regularizers.structure.quantization_noise import QuantizationNoise, quantization_noise

BITS = torch.tensor([2, 4, 8])


def test_follows_the_definition(randn):
    x, noise, shares = randn(3, 4), randn(3, 3, 4), torch.tensor([0.2, 0.7, 0.4], dtype=torch.float64)
    own, weights = 0.25, shares / (shares.sum() + 0.25)
    expected = own * x
    for weight, draw, bits in zip(weights, noise, (2, 4, 8), strict=True):
        expected = expected + weight * (x + (x.max() - x.min()) / (2**bits - 1) * draw)
    torch.testing.assert_close(quantization_noise(x, noise, shares, BITS), expected)


def test_gradient_to_the_values_is_their_own_share(randn):
    x, shares = randn(3, 4).requires_grad_(), torch.rand(3).double().requires_grad_()
    noise = randn(3, 3, 4)
    to_x, to_shares = torch.autograd.grad(quantization_noise(x, noise, shares, BITS).sum(), (x, shares))
    torch.testing.assert_close(to_x, torch.full_like(x, 0.25))
    assert (to_shares != 0).all()
    assert torch.autograd.gradcheck(lambda c: quantization_noise(x.detach(), noise, c, BITS), shares)


def test_without_noise_only_the_scale_changes(randn):
    x, shares = randn(5), torch.tensor([0.5, 0.5, 0.75], dtype=torch.float64)
    scale = 0.25 + 1.75 / 2.0
    torch.testing.assert_close(quantization_noise(x, torch.zeros(3, 5).double(), shares, BITS), scale * x)


@pytest.mark.parametrize("bits", [6, 8])
def test_noise_halves_with_every_bit(randn, bits):
    x, noise, share = randn(50), randn(1, 50), torch.ones(1, dtype=torch.float64)

    def perturbation(width):
        width = torch.tensor([width])
        return quantization_noise(x, noise, share, width) - quantization_noise(x, 0 * noise, share, width)

    torch.testing.assert_close(perturbation(bits), 2 * perturbation(bits + 1), rtol=0.02, atol=0)


def test_constant_tensors_receive_no_noise(randn):
    x = torch.full((4,), 3.0, dtype=torch.float64)
    shares = torch.ones(3, dtype=torch.float64)
    torch.testing.assert_close(quantization_noise(x, randn(3, 4), shares, BITS), (0.25 + 3 / 3.25) * x)


@pytest.mark.parametrize("noise", ["gaussian", "uniform"])
def test_training_is_noisy_and_its_shares_are_trained(trainer, objective, noise):
    noisy = trainer(QuantizationNoise(noise=noise, bits="4,8"), steps=10)
    shares = noisy.lower.parameters["0.parametrizations.weight.0.share_logits"]
    assert shares.shape == (2,)
    assert shares.ne(0).all()
    lower = noisy.lower
    values = lower.space.values(lower.space.start)
    logits = []
    for number in (0, 4, 0):
        step = lower.begin(number, lower.batches.at(0), values, "elementary", perturbed=True)
        lower.loss(step, lower.network, lower.parameters)
        logits.append(step.logits)
    assert torch.equal(logits[0], logits[2])
    assert not torch.allclose(logits[0], logits[1])
