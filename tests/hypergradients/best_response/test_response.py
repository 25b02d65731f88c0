"""Passes of a best-response network against autograd, whatever the architecture (checks 1, 12 and 13)."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.autograd.forward_ad as fwAD
from architectures import ARCHITECTURES
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from selftune.hypergradients.best_response import convert
from selftune.networks.modes import constant_buffers

N = 3
BATCH = 7


def build(name, dtype=torch.float64, rank="auto", seed=0):
    """A converted network with non-zero gates, a batch and perturbations."""
    torch.manual_seed(seed)
    constructor, shape = ARCHITECTURES[name]
    model, inputs = constructor().to(dtype), torch.randn(BATCH, *shape, dtype=dtype)
    response = convert(
        model, hyperparameters=N, example=inputs, rank=rank, generator=torch.Generator().manual_seed(seed)
    )
    nn.init.normal_(response.gates, std=0.3)
    return model, response, inputs, torch.randn(BATCH, N, dtype=dtype)


def seeded(function, *args):
    """The same dropout masks every time."""
    torch.manual_seed(1)
    with sdpa_kernel(SDPBackend.MATH):
        return function(*args)


def gradients(output, response):
    weights = torch.linspace(-1, 1, output.numel(), dtype=output.dtype).view(output.shape)
    parameters = list(response.parameters())
    return torch.autograd.grad((weights * output.sin()).sum(), parameters, materialize_grads=True)


def by_forward_mode(model, response, h, inputs):
    with fwAD.dual_level(), constant_buffers(model):
        dual = fwAD.make_dual(torch.zeros_like(h), h)
        primal, tangent = fwAD.unpack_dual(response.perturbed(dual, inputs))
        return primal + tangent


def by_double_backward(model, response, h, inputs):
    origin = torch.zeros_like(h, requires_grad=True)
    with constant_buffers(model):
        primal = response.perturbed(origin, inputs)
    cotangent = torch.zeros_like(primal, requires_grad=True)
    (pulled,) = torch.autograd.grad(primal, origin, cotangent, create_graph=True)
    (tangent,) = torch.autograd.grad(pulled, cotangent, h, create_graph=True)
    return primal + tangent


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_linearization_agrees_with_double_backward(name, training):
    model, response, inputs, h = build(name)
    model.train(training)
    before = copy.deepcopy(model.state_dict())
    pairs = seeded(response.linearized, h, inputs)
    expected = seeded(by_double_backward, model, response, h, inputs)
    torch.testing.assert_close(pairs, expected, rtol=1e-6, atol=1e-8)
    for actual, wanted in zip(gradients(pairs, response), gradients(expected, response), strict=True):
        torch.testing.assert_close(actual, wanted, rtol=1e-6, atol=1e-8)
    for key, value in model.state_dict().items():
        assert torch.equal(value, before[key]), key


@pytest.mark.parametrize("name", sorted(set(ARCHITECTURES) - {"grid"}))
def test_linearization_agrees_with_forward_mode(name):
    model, response, inputs, h = build(name)
    pairs, expected = seeded(response.linearized, h, inputs), seeded(by_forward_mode, model, response, h, inputs)
    torch.testing.assert_close(pairs, expected, rtol=1e-6, atol=1e-8)
    if name in {"attention", "encoder", "residual", "assorted"}:
        return  # torch 2.13 cannot differentiate the forward derivative of softmax and logsumexp once more
    for actual, wanted in zip(gradients(pairs, response), gradients(expected, response), strict=True):
        torch.testing.assert_close(actual, wanted, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_linearization_is_the_limit_of_finite_differences(name):
    model, response, inputs, h = build(name)
    model.eval()
    step = 1e-6
    with torch.no_grad():
        forth, back = response.perturbed(step * h, inputs), response.perturbed(-step * h, inputs)
        expected = model(inputs) + (forth - back) / (2 * step)
        torch.testing.assert_close(response.linearized(h, inputs), expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_contraction_is_the_gradient_at_the_origin(name):
    model, response, inputs, _ = build(name)
    model.eval()
    origin = torch.zeros(1, N, dtype=inputs.dtype, requires_grad=True)
    (expected,) = torch.autograd.grad(response.perturbed(origin, inputs).sin().sum(), origin)
    named = response.elementary
    plain = torch.autograd.grad(model(inputs).sin().sum(), list(named.values()))
    actual = response.contract(dict(zip(named, plain, strict=True)))
    torch.testing.assert_close(actual, expected[0], rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("rank", [1, 3])
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_perturbed_network_is_the_plain_one_with_the_weights_of_h(name, rank):
    model, response, inputs, h = build(name, rank=rank)
    model.eval()
    for example in range(3):
        expected = torch.func.functional_call(model, response.weights(h[example]), (inputs,))[example]
        torch.testing.assert_close(response.perturbed(h, inputs)[example], expected)


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_response_at_the_origin_is_the_plain_network(name):
    model, response, inputs, h = build(name, torch.float32)
    model.eval()
    plain = model(inputs)
    torch.testing.assert_close(response.linearized(0 * h, inputs), plain)
    torch.testing.assert_close(response.perturbed(0 * h, inputs), plain)


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_passes_leave_the_network_as_it_was(name):
    model, response, inputs, h = build(name, torch.float32)
    response.linearized(h, inputs).sum().backward()
    assert all(parameter.grad is None and parameter.requires_grad for parameter in model.parameters())
    assert all(parameter.grad is not None for parameter in response.parameters())
    assert not any("gate" in module.__dict__ for module in model.modules())


@pytest.mark.parametrize("name", ["mlp", "cnn", "encoder", "attention"])
def test_linearization_works_under_autocast(name):
    model, response, inputs, h = build(name, torch.float32)
    model.eval()
    expected = response.linearized(h, inputs)
    with torch.autocast("cpu", torch.bfloat16):
        outputs = response.linearized(h, inputs)
    assert outputs.dtype == torch.float32  # of value and tangent, which would be rounded away
    torch.testing.assert_close(outputs.float(), expected, rtol=0.1, atol=0.1)


def test_first_and_later_passes_draw_the_same_random_numbers():
    """Also where an operation is tried in forward mode before it turns out to need double backward."""

    class WithoutRule(nn.LSTM):
        def forward(self, x):
            return super().forward(x)

    class Network(nn.Module):
        def __init__(self):
            super().__init__()
            self.embed, self.lstm = nn.Linear(3, 4), WithoutRule(4, 5, num_layers=2, dropout=0.5, batch_first=True)

        def forward(self, x):
            return self.lstm(self.embed(x))[0]

    torch.manual_seed(0)
    model, inputs, h = Network(), torch.randn(4, 6, 3), torch.randn(4, N)
    response = convert(model, hyperparameters=N, example=inputs, generator=torch.Generator(), without_rule="plain")
    first, second = seeded(response.linearized, h, inputs), seeded(response.linearized, h, inputs)
    assert response.fallbacks == {"lstm": "double backward"}
    assert torch.equal(first, second)
    assert torch.equal(first, seeded(model, inputs))  # the gates are still zero
