"""Every rule against the definition: the module run on one example with the weights of that example's h."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from selftune.hypergradients.best_response import Rule, convert, responds
from selftune.hypergradients.best_response.rules.rule import _RULES

N = 3
BATCH = 6


def case(build, *shape, inputs=None, axis=0, rank="auto"):
    """A module, inputs of BATCH examples along ``axis`` of every tensor, and the rank of its directions."""
    return build, (lambda: (torch.randn(shape, dtype=torch.float64),)) if inputs is None else inputs, axis, rank


MODULES = {
    "linear": case(lambda: nn.Linear(4, 5), BATCH, 4),
    "linear of rank 2": case(lambda: nn.Linear(4, 5), BATCH, 4, rank=2),
    "linear on sequences": case(lambda: nn.Linear(4, 5), BATCH, 2, 4),
    "linear on sequences, time first": case(lambda: nn.Linear(4, 5), 2, BATCH, 4, axis=1, rank=2),
    "conv3d": case(lambda: nn.Conv3d(4, 6, 2, groups=2, padding=1), BATCH, 4, 3, 4, 3),
}


def converted(name):
    torch.manual_seed(0)
    build, inputs, axis, rank = MODULES[name]
    module, arguments = build().double(), inputs()
    feed = tuple(x.transpose(0, axis) for x in arguments)

    class Network(nn.Module):
        """Takes batches with the examples first, as networks do, and gives the module inputs that move, too."""

        def __init__(self):
            super().__init__()
            self.module = module
            widths = {x.shape[-1] for x in feed if x.is_floating_point()}
            self.below = nn.ModuleDict({str(width): nn.Linear(width, width) for width in widths}).double()

        def forward(self, *batch):
            moving = (self.below[str(x.shape[-1])](x) if x.is_floating_point() else x for x in batch)
            return self.module(*(x.transpose(0, axis) for x in moving)).transpose(0, axis)

    network = Network()
    response = convert(network, hyperparameters=N, example=feed, rank=rank, generator=torch.Generator())
    nn.init.normal_(response.gates, std=0.5)
    return network, response, feed, torch.randn(BATCH, N, dtype=torch.float64)


@pytest.mark.parametrize("name", MODULES)
def test_every_parameter_responds_by_a_rule(name):
    network, response, _, _ = converted(name)
    assert response.responding == set(dict(network.named_parameters()))


@pytest.mark.parametrize("name", MODULES)
def test_perturbed_modules_have_the_weights_of_each_example(name):
    network, response, batch, h = converted(name)
    network.eval()
    found = response.perturbed(h, *batch)
    for example in range(BATCH):
        own = torch.func.functional_call(network, response.weights(h[example]), batch)
        torch.testing.assert_close(found[example], own[example])
    torch.testing.assert_close(response.perturbed(h[2:3], *batch)[2], found[2])  # one row for all examples


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("name", MODULES)
def test_linearized_modules_have_the_first_order_of_the_perturbed_ones(name, training):
    """Values, and gradients of all that is fitted."""
    network, response, batch, h = converted(name)
    network.train(training)
    h = h.requires_grad_()
    origin = torch.zeros_like(h)
    value, slope = torch.autograd.functional.jvp(
        lambda d: response.perturbed(d, *batch), origin, h, create_graph=True
    )
    expected = value.detach() + slope
    found = response.linearized(h, *batch)
    torch.testing.assert_close(found, expected)
    weights = torch.randn_like(found)
    fitted = [h, *response.parameters()]
    wanted = torch.autograd.grad(expected, fitted, weights)
    for actual, want in zip(torch.autograd.grad(found, fitted, weights), wanted, strict=True):
        torch.testing.assert_close(actual, want)


@pytest.mark.parametrize("name", MODULES)
def test_contraction_is_the_gradient_of_the_perturbed_module(name):
    network, response, batch, _ = converted(name)
    network.eval()
    origin = torch.zeros(1, N, dtype=torch.float64, requires_grad=True)
    (expected,) = torch.autograd.grad(response.perturbed(origin, *batch).sin().sum(), origin)
    named = response.elementary
    plain = torch.autograd.grad(network(*batch).sin().sum(), list(named.values()))
    actual = response.contract(dict(zip(named, plain, strict=True)))
    torch.testing.assert_close(actual, expected[0], rtol=1e-10, atol=1e-10)


class Scale(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(4))

    def forward(self, input):
        return input * self.weight


def test_rules_of_other_packages_are_registered_with_a_decorator():
    @responds(f"{Scale.__module__}.Scale")
    class ScaleRule(Rule):
        def forward(self, module, response, input):
            change = response.change("weight")
            plain = input * module.weight
            return plain if change is None else response.add(plain, response.along(change, input) * input)

    try:
        model, inputs = nn.Sequential(Scale(), nn.Linear(4, 2)), torch.randn(5, 4)
        response = convert(model, hyperparameters=2, example=inputs, generator=torch.Generator())
        assert "0.weight" in response.responding
        assert "0      Scale   scale_rule rank 1" in str(response.report)
    finally:
        del _RULES[f"{Scale.__module__}.Scale"]
