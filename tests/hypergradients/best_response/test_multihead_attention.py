"""nn.MultiheadAttention and what is made of it: every example with the weights of its own h."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from selftune.hypergradients.best_response import convert

N, BATCH, QUERIES, KEYS, WIDTH, HEADS = 3, 4, 3, 5, 6, 2


class Attending(nn.Module):
    """Attention of inputs that move to themselves, or to others, with the examples first."""

    def __init__(self, to="itself", call=None, mask=None, padding=False, **options):
        super().__init__()
        self.batch_first = options.setdefault("batch_first", True)
        self.attention = nn.MultiheadAttention(WIDTH, HEADS, **options)
        for name, parameter in self.attention.named_parameters():
            if name.endswith("bias"):  # which torch begins at zero
                nn.init.normal_(parameter, std=0.3)
        self.below = nn.Linear(WIDTH, WIDTH)
        self.keys = nn.Linear(WIDTH, options.get("kdim") or WIDTH)
        self.values = nn.Linear(WIDTH, options.get("vdim") or WIDTH)
        self.to, self.call, self.mask, self.padding = to, call or {}, mask, padding

    def forward(self, x, others):
        query = self.below(x)
        key = query if self.to == "itself" else self.keys(others)
        value = key if self.to != "keys and values" else self.values(others)
        inputs = [query, key, value]
        if not self.batch_first:
            axes = {id(t): t.transpose(0, 1) for t in inputs}
            inputs = [axes[id(t)] for t in inputs]
        call = dict(self.call)
        if self.mask is not None:
            call["attn_mask"] = self.mask(len(x), x.shape[1], key.shape[1])
        if self.padding:  # the last key of every other example is no key
            hidden = torch.zeros(len(x), key.shape[1], dtype=torch.bool)
            hidden[::2, -1] = True
            call["key_padding_mask"] = hidden
        output, weights = self.attention(*inputs, **call)
        output = output if self.batch_first else output.transpose(0, 1)
        return output if weights is None else torch.cat([output.flatten(1), weights.flatten(1)], dim=1)


def causal(batch, queries, keys):
    return torch.ones(queries, keys, dtype=torch.bool).triu(1)


def distances(batch, queries, keys):
    return -(torch.arange(queries)[:, None] - torch.arange(keys)).abs().double()


def of_each_head(batch, queries, keys):
    return distances(batch, queries, keys) * torch.arange(1, batch * HEADS + 1)[:, None, None] / 4


CASES = {
    "itself": {},
    "no weights": {"call": {"need_weights": False}},
    "weights of every head": {"call": {"average_attn_weights": False}},
    "time first": {"batch_first": False, "call": {"need_weights": False}},
    "time first, with weights": {"batch_first": False},
    "others": {"to": "others", "call": {"need_weights": False}},
    "keys and values": {"to": "keys and values"},
    "keys and values of other widths": {"to": "keys and values", "kdim": 4, "vdim": 7},
    "of other widths, no weights": {
        "to": "keys and values",
        "kdim": 4,
        "vdim": 7,
        "call": {"need_weights": False},
    },
    "of other widths, time first, no bias": {
        "to": "keys and values",
        "kdim": 4,
        "vdim": 7,
        "bias": False,
        "batch_first": False,
    },
    "no bias": {"bias": False},
    "a key and a value of its own": {"add_bias_kv": True, "mask": causal, "call": {"need_weights": False}},
    "of its own, time first, padded": {"add_bias_kv": True, "batch_first": False, "padding": True},
    "a zero key": {"add_zero_attn": True, "add_bias_kv": True, "mask": distances, "padding": True},
    "causal": {"mask": causal, "call": {"is_causal": True, "need_weights": False}},
    "causal, padded": {"mask": causal, "padding": True, "call": {"is_causal": True, "need_weights": False}},
    "mask of numbers": {"to": "others", "mask": distances},
    "mask of every head": {"mask": of_each_head, "call": {"need_weights": False}},
    "dropout": {"dropout": 0.3, "call": {"need_weights": False}},
    "dropout, with weights": {"dropout": 0.3, "batch_first": False},
}


def converted(name, rank="auto"):
    torch.manual_seed(0)
    network = Attending(**CASES[name]).double()
    batch = (
        torch.randn(BATCH, QUERIES, WIDTH, dtype=torch.float64),
        torch.randn(BATCH, KEYS, WIDTH, dtype=torch.float64),
    )
    response = convert(network, hyperparameters=N, example=batch, rank=rank, generator=torch.Generator())
    nn.init.normal_(response.gates, std=0.5)
    return network, response, batch, torch.randn(BATCH, N, dtype=torch.float64)


def of_attention(network):
    return {name for name, _ in network.named_parameters() if name.startswith("attention.")}


@pytest.mark.parametrize("rank", ["auto", 2])
@pytest.mark.parametrize("name", CASES)
def test_every_example_has_the_weights_of_its_own_h(name, rank):
    network, response, batch, h = converted(name, rank)
    network.eval()
    assert response.responding >= of_attention(network)
    found = response.perturbed(h, *batch)
    for example in range(BATCH):
        own = torch.func.functional_call(network, response.weights(h[example]), batch)
        torch.testing.assert_close(found[example], own[example])
    torch.testing.assert_close(response.perturbed(h[2:3], *batch)[2], found[2])


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("name", CASES)
def test_linearized_attention_is_the_first_order_of_the_perturbed(name, training):
    network, response, batch, h = converted(name)
    network.train(training)
    h = h.requires_grad_()

    def perturbed(d):
        torch.manual_seed(1)  # the same elements are dropped
        with sdpa_kernel(SDPBackend.MATH):  # which can be differentiated twice
            return response.perturbed(d, *batch)

    value, slope = torch.autograd.functional.jvp(perturbed, torch.zeros_like(h), h, create_graph=True)
    expected = value.detach() + slope
    torch.manual_seed(1)
    found = response.linearized(h, *batch)
    torch.testing.assert_close(found, expected)
    weights = torch.randn_like(found)
    fitted = [h, *response.parameters()]
    wanted = torch.autograd.grad(expected, fitted, weights, allow_unused=True, materialize_grads=True)
    given = torch.autograd.grad(found, fitted, weights, allow_unused=True, materialize_grads=True)
    for actual, want in zip(given, wanted, strict=True):
        torch.testing.assert_close(actual, want)


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("name", CASES)
def test_at_zero_it_is_the_module(name, training):
    """Also with the elements that torch would drop."""
    network, response, batch, h = converted(name)
    network.train(training)
    torch.manual_seed(1)
    plain = network(*batch)
    for forward in (response.linearized, response.perturbed):
        torch.manual_seed(1)
        torch.testing.assert_close(forward(torch.zeros_like(h), *batch), plain)


@pytest.mark.parametrize("name", CASES)
def test_contraction_is_the_gradient_of_the_perturbed_module(name):
    network, response, batch, _ = converted(name)
    network.eval()
    origin = torch.zeros(1, N, dtype=torch.float64, requires_grad=True)
    (expected,) = torch.autograd.grad(response.perturbed(origin, *batch).sin().sum(), origin)
    named = response.elementary
    plain = torch.autograd.grad(network(*batch).sin().sum(), list(named.values()), materialize_grads=True)
    actual = response.contract(dict(zip(named, plain, strict=True)))
    torch.testing.assert_close(actual, expected[0], rtol=1e-9, atol=1e-9)


class Translating(nn.Module):
    """torch's whole transformer, of which every example sees a mask of its own."""

    def __init__(self, **options):
        super().__init__()
        self.below = nn.Linear(WIDTH, WIDTH)
        self.options = options
        self.transformer = nn.Transformer(WIDTH, HEADS, 2, 1, 8, dropout=0.0, batch_first=True, **options)

    def forward(self, x, others):
        hidden = torch.zeros(others.shape[:2], dtype=torch.bool)
        hidden[::2, -1] = True
        mask = nn.Transformer.generate_square_subsequent_mask(x.shape[1], dtype=x.dtype)
        return self.transformer(
            self.below(others),
            self.below(x),
            tgt_mask=mask,
            src_key_padding_mask=hidden,
            memory_key_padding_mask=hidden,  # torch's fused path has zeros there
            tgt_is_causal=True,
        )


@pytest.mark.parametrize("options", [{}, {"norm_first": True}, {"activation": "gelu"}], ids=str)
def test_transformers_respond_in_all_their_layers(options):
    torch.manual_seed(0)
    network = Translating(**options).double()
    batch = torch.randn(BATCH, QUERIES, WIDTH).double(), torch.randn(BATCH, KEYS, WIDTH).double()
    response = convert(network, hyperparameters=N, example=batch, generator=torch.Generator())
    nn.init.normal_(response.gates, std=0.1)
    missing = {n for n, p in network.named_parameters() if p.ndim > 1} - response.responding
    assert not missing
    h = torch.randn(BATCH, N, dtype=torch.float64)
    for training in (True, False):
        network.train(training)
        with torch.no_grad():
            plain = network(*batch)
            torch.testing.assert_close(response.perturbed(torch.zeros_like(h), *batch), plain)
            found = response.perturbed(h, *batch)
        for example in range(BATCH):
            own = torch.func.functional_call(network, response.weights(h[example]), batch)
            torch.testing.assert_close(found[example], own[example])
        with sdpa_kernel(SDPBackend.MATH):
            value, slope = torch.autograd.functional.jvp(
                lambda d: response.perturbed(d, *batch), torch.zeros_like(h), h
            )
        torch.testing.assert_close(response.linearized(h, *batch), value + slope)


class Across(nn.Module):
    """Attention of the examples of a batch to each other."""

    def __init__(self):
        super().__init__()
        self.attention, self.head = nn.MultiheadAttention(WIDTH, HEADS), nn.Linear(WIDTH, 2)

    def forward(self, x):
        return self.head(self.attention(x, x, x)[0])


def test_attention_across_the_examples_of_a_batch_stays_plain():
    batch = torch.randn(BATCH, QUERIES, WIDTH)
    response = convert(
        Across(), hyperparameters=N, example=batch, generator=torch.Generator(), without_rule="plain"
    )
    assert response.responding == {"head.weight", "head.bias"}
    assert {e.name: e.reason for e in response.report}["attention"] == "it mixes the examples of a batch"
