"""Every rule against the definition: the module run on one example with the weights of that example's h."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from selftune.hypergradients.best_response import Rule, convert, responds
from selftune.hypergradients.best_response.rules.rule import _RULES

N = 3
BATCH = 6


def double(*shape):
    return torch.randn(shape, dtype=torch.float64)


def case(build, *shape, inputs=None, axis=0, rank="auto"):
    """A module, inputs of BATCH examples along ``axis`` of every tensor, and the rank of its directions."""
    return build, (lambda: (double(*shape),)) if inputs is None else inputs, axis, rank


MODULES = {
    "linear": case(lambda: nn.Linear(4, 5), BATCH, 4),
    "linear of rank 2": case(lambda: nn.Linear(4, 5), BATCH, 4, rank=2),
    "linear on sequences": case(lambda: nn.Linear(4, 5), BATCH, 2, 4),
    "linear on sequences, time first": case(lambda: nn.Linear(4, 5), 2, BATCH, 4, axis=1, rank=2),
    "conv1d": case(lambda: nn.Conv1d(4, 6, 3, padding=2, dilation=2, padding_mode="circular"), BATCH, 4, 7),
    "depthwise conv2d": case(lambda: nn.Conv2d(3, 6, 3, groups=3, stride=2), BATCH, 3, 5, 6, rank=2),
    "conv3d": case(lambda: nn.Conv3d(4, 6, 2, groups=2, padding=1), BATCH, 4, 3, 4, 3),
    "conv_transpose1d": case(lambda: nn.ConvTranspose1d(4, 6, 3, stride=2, output_padding=1), BATCH, 4, 5),
    "grouped conv_transpose2d": case(lambda: nn.ConvTranspose2d(4, 6, 3, groups=2), BATCH, 4, 3, 4, rank=2),
    "conv_transpose3d": case(lambda: nn.ConvTranspose3d(2, 3, 2, dilation=2, bias=False), BATCH, 2, 3, 2, 3),
    "embedding": case(lambda: nn.Embedding(9, 4), inputs=lambda: (torch.randint(9, (BATCH, 5)),)),
    "embedding of rank 2": case(lambda: nn.Embedding(9, 4), inputs=lambda: (torch.randint(9, (BATCH,)),), rank=2),
    "embedding with padding, time first": case(
        lambda: nn.Embedding(9, 4, padding_idx=3), inputs=lambda: (torch.randint(9, (5, BATCH)),), axis=1
    ),
    "bilinear": case(lambda: nn.Bilinear(4, 3, 2), inputs=lambda: (double(BATCH, 5, 4), double(BATCH, 5, 3))),
    "layer_norm": case(lambda: drawn(nn.LayerNorm(4)), BATCH, 5, 4),
    "layer_norm of two axes, time first": case(lambda: drawn(nn.LayerNorm((3, 4))), 5, BATCH, 3, 4, axis=1),
    "layer_norm without bias": case(lambda: drawn(nn.LayerNorm(4, bias=False)), BATCH, 4),
    "rms_norm": case(lambda: drawn(nn.RMSNorm(4)), BATCH, 5, 4),
    "batch_norm1d": case(lambda: drawn(nn.BatchNorm1d(4)), BATCH, 4),
    "batch_norm2d": case(lambda: drawn(nn.BatchNorm2d(3)), BATCH, 3, 4, 5),
    "batch_norm without statistics": case(
        lambda: drawn(nn.BatchNorm3d(3, track_running_stats=False)), BATCH, 3, 2, 2, 3
    ),
    "group_norm": case(lambda: drawn(nn.GroupNorm(2, 6)), BATCH, 6, 4, 5),
    "instance_norm": case(lambda: drawn(nn.InstanceNorm1d(3, affine=True)), BATCH, 3, 7),
    "instance_norm with statistics": case(
        lambda: drawn(nn.InstanceNorm2d(3, affine=True, track_running_stats=True)), BATCH, 3, 4, 5
    ),
}


def drawn(norm):
    """With weights and statistics that are not 0 and 1."""
    for tensor in norm.state_dict().values():
        if tensor.is_floating_point():
            nn.init.uniform_(tensor, 0.5, 1.5)
    return norm


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
    if getattr(module, "track_running_stats", True) is False:  # examples see each other, and so their weights
        network.below.requires_grad_(False)
    response = convert(network, hyperparameters=N, example=feed, rank=rank, generator=torch.Generator())
    nn.init.normal_(response.gates, std=0.5)
    if getattr(module, "padding_idx", None) is not None:  # gates start at 0, and those of padding stay there
        response.gates.data[module.padding_idx] = 0
    return network, response, feed, torch.randn(BATCH, N, dtype=torch.float64)


@pytest.mark.parametrize("name", MODULES)
def test_every_parameter_responds_by_a_rule(name):
    network, response, _, _ = converted(name)
    assert response.responding == {n for n, p in network.named_parameters() if p.requires_grad}


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


class LanguageModel(nn.Module):
    """A table of words that is the head's weight, too."""

    def __init__(self, hidden=4):
        super().__init__()
        self.words = nn.Embedding(9, hidden)
        self.body = nn.Linear(hidden, hidden)
        self.head = nn.Linear(hidden, 9, bias=False)
        self.head.weight = self.words.weight

    def forward(self, words):
        return self.head(torch.tanh(self.body(self.words(words))))


@pytest.mark.parametrize("rank", [1, 2])
def test_a_tied_tensor_has_one_response(rank):
    torch.manual_seed(0)
    network, words = LanguageModel().double(), torch.randint(9, (BATCH, 5))
    response = convert(network, hyperparameters=N, example=words, rank=rank, generator=torch.Generator())
    assert set(response.responding) == {"words.weight", "body.weight", "body.bias"}
    assert [entry.path for entry in response.report] == [
        f"{name} rank {rank}" for name in ("embedding", "linear", "linear")
    ]
    nn.init.normal_(response.gates, std=0.3)
    h = torch.randn(BATCH, N, dtype=torch.float64)
    found = response.perturbed(h, words)
    for example in range(BATCH):
        own = torch.func.functional_call(network, response.weights(h[example]), (words,))
        torch.testing.assert_close(found[example], own[example])
    value, slope = torch.autograd.functional.jvp(lambda d: response.perturbed(d, words), torch.zeros_like(h), h)
    torch.testing.assert_close(response.linearized(h, words), value + slope)


def test_the_linear_layer_of_transformers_responds():
    conv1d = pytest.importorskip("transformers.pytorch_utils").Conv1D
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(4, 4), conv1d(6, 4)).double()
    inputs, h = torch.randn(BATCH, 5, 4, dtype=torch.float64), torch.randn(BATCH, N, dtype=torch.float64)
    response = convert(network, hyperparameters=N, example=inputs, rank=2, generator=torch.Generator())
    assert "transformers_conv1d rank 2" in str(response.report)
    nn.init.normal_(response.gates, std=0.3)
    found = response.perturbed(h, inputs)
    for example in range(BATCH):
        own = torch.func.functional_call(network, response.weights(h[example]), (inputs,))
        torch.testing.assert_close(found[example], own[example])
    value, slope = torch.autograd.functional.jvp(lambda d: response.perturbed(d, inputs), torch.zeros_like(h), h)
    torch.testing.assert_close(response.linearized(h, inputs), value + slope)


class Folded(nn.Module):
    """Steps of time are examples of their own to its layers, next to each other or one batch after the other."""

    def __init__(self, outer):
        super().__init__()
        self.outer, self.hidden, self.norm, self.out = outer, nn.Linear(4, 5), nn.LayerNorm(5), nn.Linear(5, 2)

    def forward(self, x):
        steps = x if self.outer else x.transpose(0, 1)
        y = self.out(torch.tanh(self.norm(self.hidden(steps.flatten(0, 1))))).unflatten(0, steps.shape[:2])
        return y if self.outer else y.transpose(0, 1)


@pytest.mark.parametrize("outer", [True, False])
def test_examples_are_found_in_an_axis_that_holds_another_one(outer):
    torch.manual_seed(0)
    network, inputs = Folded(outer).double(), torch.randn(BATCH, 3, 4, dtype=torch.float64)
    response = convert(network, hyperparameters=N, example=inputs, generator=torch.Generator())
    assert response.responding == set(dict(network.named_parameters()))
    assert not response.shared_draw
    nn.init.normal_(response.gates, std=0.3)
    h = torch.randn(BATCH, N, dtype=torch.float64)
    found = response.perturbed(h, inputs)
    for example in range(BATCH):
        own = torch.func.functional_call(network, response.weights(h[example]), (inputs,))
        torch.testing.assert_close(found[example], own[example])
    value, slope = torch.autograd.functional.jvp(lambda d: response.perturbed(d, inputs), torch.zeros_like(h), h)
    torch.testing.assert_close(response.linearized(h, inputs), value + slope)


class Alike(nn.Module):
    """Whose rows do not show which example they belong to."""

    def __init__(self):
        super().__init__()
        self.first, self.out = nn.Linear(4, 4), nn.Linear(4, 2)

    def forward(self, x):
        same = self.first(torch.ones(3 * len(x), 4)).unflatten(0, (len(x), 3))
        return self.out(x + same.mean(1))


def test_what_cannot_be_told_is_not_guessed():
    inputs = torch.randn(BATCH, 4)
    response = convert(
        Alike(), hyperparameters=N, example=inputs, generator=torch.Generator(), without_rule="plain"
    )
    assert response.responding == {"out.weight", "out.bias"}
