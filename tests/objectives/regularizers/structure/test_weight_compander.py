import math

import pytest
import torch
from selftune.objectives.regularizers.structure.weight_compander import WeightCompander, weight_compander


def test_is_odd_increasing_and_bounded(randn):
    values = torch.linspace(-50, 50, 1001, dtype=torch.float64)
    weights = weight_compander(values, amplitude=0.7, width=0.3)
    torch.testing.assert_close(weights, -weights.flip(0))
    assert (weights.diff() > 0).all()
    assert weights.abs().max() < 0.7 * math.pi / 2


def test_gradient(randn):
    values = randn(3, 4).requires_grad_()
    (gradient,) = torch.autograd.grad(weight_compander(values, amplitude=0.7, width=0.3).sum(), values)
    torch.testing.assert_close(gradient, 0.7 * 0.3 / (0.09 + values.detach().square()))


def test_learned_pair_has_gradients(randn):
    pair = torch.tensor([0.7, 0.3], dtype=torch.float64, requires_grad=True)
    values = randn(5).requires_grad_()
    assert torch.autograd.gradcheck(lambda v, p: weight_compander(v, amplitude=p[0], width=p[1]), (values, pair))


def test_wide_curves_are_the_identity(randn):
    values = randn(10)
    torch.testing.assert_close(weight_compander(values, amplitude=1e6, width=1e6), values)


def test_inverse_gives_back_the_weight(randn):
    weight = 0.2 * randn(10)
    torch.testing.assert_close(weight_compander(2.0 * torch.tan(weight / 0.9), amplitude=0.9, width=2.0), weight)


@pytest.mark.parametrize("learned", [False, True])
def test_the_network_starts_as_it_is_and_its_weights_stay_bounded(trainer, objective, go_on, learned):
    reparameterised, plain = trainer(WeightCompander(amplitude=0.6, learned=learned)), trainer()
    inputs = objective.splits()["test"]["inputs"]
    torch.testing.assert_close(
        reparameterised.lower.network(inputs), plain.lower.network(inputs), atol=1e-6, rtol=1e-6
    )
    go_on(reparameterised, 20)
    amplitude = 0.6
    if learned:
        amplitude = reparameterised.lower.parameters["0.parametrizations.weight.0.amplitude"].exp().item()
        assert amplitude != pytest.approx(0.6)
    assert reparameterised.plain_network()[0].weight.abs().max() < amplitude * math.pi / 2
