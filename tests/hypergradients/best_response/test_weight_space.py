"""Tensors without a rule: the network's own code runs with the tensors of one h, which the batch shares."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations

from selftune.hypergradients.best_response import convert

N = 3


class Bare(nn.Module):
    """A position embedding, a class token and a scale of layers as bare parameters."""

    def __init__(self):
        super().__init__()
        self.embed, self.head = nn.Linear(3, 8), nn.Linear(8, 2)
        self.token, self.positions = nn.Parameter(torch.randn(1, 1, 8)), nn.Parameter(torch.randn(1, 5, 8))
        self.scale, self.temperature = nn.Parameter(torch.full((8,), 1e-2)), nn.Parameter(torch.tensor(2.0))

    def forward(self, x):
        x = torch.cat([self.token.expand(len(x), -1, -1), self.embed(x)], 1) + self.positions
        x = x + self.scale * torch.tanh(x)
        return self.head(x.mean(1)) / self.temperature


class Tied(nn.Module):
    """A linear layer's weight that is used outside of the layer, too."""

    def __init__(self):
        super().__init__()
        self.there, self.out = nn.Linear(3, 6), nn.Linear(3, 2)

    def forward(self, x):
        return self.out(torch.tanh(self.there(x)) @ self.there.weight)


def old_weight_norm():
    return nn.Sequential(torch.nn.utils.weight_norm(nn.Linear(3, 6)), nn.Tanh(), nn.Linear(6, 2))


NETWORKS = {
    "bare parameters": (Bare, (4, 3), {"token": 3, "positions": 3, "scale": 1, "temperature": 1}),
    "weight_norm": (
        lambda: nn.Sequential(parametrizations.weight_norm(nn.Linear(3, 6)), nn.Tanh(), nn.Linear(6, 2)),
        (3,),
        {"0.parametrizations.weight.original0": 1, "0.parametrizations.weight.original1": 1, "0.bias": 1},
    ),
    "weight_norm by a hook": (old_weight_norm, (3,), {"0.weight_g": 1, "0.weight_v": 1, "0.bias": 1}),
    "spectral_norm": (
        lambda: nn.Sequential(parametrizations.spectral_norm(nn.Linear(3, 6)), nn.Tanh(), nn.Linear(6, 2)),
        (3,),
        {"0.parametrizations.weight.original": 1, "0.bias": 1},
    ),
    "unknown type": (lambda: nn.Sequential(nn.Linear(3, 6), nn.PReLU(6)), (3,), {"1.weight": 1}),
    "used elsewhere": (Tied, (3,), {"there.weight": 1, "there.bias": 1}),
    "projected lstm": (lambda: Last(nn.LSTM(3, 4, proj_size=2, batch_first=True)), (5, 3), None),
}


class Last(nn.Module):
    def __init__(self, recurrent):
        super().__init__()
        self.recurrent = recurrent

    def forward(self, x):
        return self.recurrent(x)[0][:, -1]


def converted(name, **settings):
    torch.manual_seed(0)
    build, shape, _ = NETWORKS[name]
    network, inputs = build().double(), torch.randn(6, *shape, dtype=torch.float64)
    settings = {"without_rule": "weight_space"} | settings
    response = convert(network, hyperparameters=N, example=inputs, generator=torch.Generator(), **settings)
    nn.init.normal_(response.gates, std=0.3)
    return network, response, inputs, torch.randn(1, N, dtype=torch.float64)


@pytest.mark.parametrize("name", NETWORKS)
def test_all_that_is_trained_responds(name):
    network, response, _, _ = converted(name)
    assert response.responding == set(dict(network.named_parameters()))
    assert response.shared_draw
    expected = NETWORKS[name][2]
    if expected is not None:
        assert set(response._shared) == set(expected)
    assert "weight space" in str(response.report)


@pytest.mark.parametrize("name", NETWORKS)
def test_a_perturbed_pass_computes_with_the_weights_of_h(name):
    network, response, inputs, h = converted(name)
    network.eval()
    own = torch.func.functional_call(network, response.weights(h[0]), (inputs,))
    torch.testing.assert_close(response.perturbed(h, inputs), own)


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("name", NETWORKS)
def test_a_linearized_pass_is_its_first_order(name, training):
    network, response, inputs, h = converted(name)
    network.train(training)
    before = copy.deepcopy(network.state_dict())
    found = response.linearized(h, inputs)
    for key, value in network.state_dict().items():
        assert torch.equal(value, before[key]), key
    step = 1e-6
    network.eval()
    with torch.no_grad():
        forth, back = response.perturbed(step * h, inputs), response.perturbed(-step * h, inputs)
        expected = network(inputs) + (forth - back) / (2 * step)
    if not (training and name == "spectral_norm"):  # whose power iteration goes on in training
        torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-6)
    gradients = torch.autograd.grad(found.square().sum(), list(response.parameters()))
    assert all(gradient.isfinite().all() for gradient in gradients)


@pytest.mark.parametrize("name", NETWORKS)
def test_contraction_is_the_gradient_of_the_perturbed_network(name):
    network, response, inputs, _ = converted(name)
    network.eval()
    origin = torch.zeros(1, N, dtype=torch.float64, requires_grad=True)
    (expected,) = torch.autograd.grad(response.perturbed(origin, inputs).sin().sum(), origin)
    named = response.elementary
    plain = torch.autograd.grad(network(inputs).sin().sum(), list(named.values()))
    torch.testing.assert_close(response.contract(dict(zip(named, plain, strict=True))), expected[0])


def test_passes_take_one_row():
    _, response, inputs, _ = converted("bare parameters")
    with pytest.raises(ValueError, match="h must have one row, which the whole batch shares"):
        response.linearized(torch.randn(6, N, dtype=torch.float64), inputs)


def test_auto_goes_by_the_share_of_what_has_no_rule():
    _, large, _, _ = converted("bare parameters", without_rule="auto")
    assert large.shared_draw
    network, inputs = nn.Sequential(nn.Linear(3, 64), nn.PReLU(), nn.Linear(64, 2)), torch.randn(6, 3)
    small = convert(network, hyperparameters=N, example=inputs, generator=torch.Generator())
    assert not small.shared_draw
    assert "1.weight" not in small.responding
    _, plain, _, _ = converted("bare parameters", without_rule="plain")
    assert not plain.shared_draw
    assert "no rule for this type" in str(plain.report)
