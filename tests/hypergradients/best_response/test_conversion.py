"""What conversion changes, what it leaves alone and what it says about it (checks 1 and 3)."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
import torch.nn.functional as F
from architectures import ARCHITECTURES
from torch import nn
from torch.nn.utils import parametrizations

from selftune.hypergradients.best_response import convert


def converted(model, inputs, n=2, **settings):
    return convert(
        model, hyperparameters=n, example=inputs, generator=torch.Generator().manual_seed(0), **settings
    )


def small_cnn():
    blocks = [
        layer
        for before, after in ((3, 10), (10, 20), (20, 40))
        for layer in (nn.Conv2d(before, after, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2))
    ]
    return nn.Sequential(*blocks, nn.Flatten(), nn.Linear(640, 10))


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_switched_off_it_is_the_original_network_bit_for_bit(name, training):
    constructor, shape = ARCHITECTURES[name]
    torch.manual_seed(0)
    original, inputs = constructor().train(training), torch.randn(6, *shape)
    model = copy.deepcopy(original)
    torch.manual_seed(1)
    response = converted(model, inputs)
    assert torch.equal(torch.rand(3), torch.rand(3, generator=torch.Generator().manual_seed(1)))
    assert all(module.training == training for module in model.modules())
    assert list(model.state_dict()) == list(original.state_dict())
    assert [name for name, _ in model.named_parameters()] == [name for name, _ in original.named_parameters()]
    nn.init.normal_(response.gates)
    for network in (original, model):
        torch.manual_seed(2)
        network.outputs = network(inputs)
        network.gradients = torch.autograd.grad(network.outputs.sum(), list(network.parameters()))
    assert torch.equal(model.outputs, original.outputs)
    assert all(torch.equal(a, b) for a, b in zip(model.gradients, original.gradients, strict=True))
    for key, value in model.state_dict().items():
        assert torch.equal(value, original.state_dict()[key])


def test_parameter_counts():
    model = small_cnn()
    assert sum(p.numel() for p in model.parameters()) == 15_750
    response = converted(model, torch.randn(2, 3, 32, 32), n=7)
    assert sum(p.numel() for p in (*model.parameters(), *response.parameters())) == 32_620


def test_response_starts_at_zero_and_follows_the_generator():
    inputs = torch.randn(4, 3, 32, 32)
    first, second = converted(small_cnn(), inputs), converted(small_cnn(), inputs)
    assert not first.gates.any()
    for name, direction in first.directions.items():
        assert torch.equal(direction, second.directions[name])
        bound = direction[0].numel() ** -0.5
        assert 0.9 * bound < direction.abs().max() <= bound
    h = torch.randn(4, 2)
    first.linearized(h, inputs).square().sum().backward()
    assert first.gates.grad.any()
    assert not first.bias_directions.grad.any()  # in the first step only V and C move


@pytest.mark.parametrize(
    ("n", "outputs", "rank"), [(1, 1, 1), (2, 1, 2), (7, 10, 1), (7, 4, 2), (7, 2, 4), (7, 1, 7)]
)
def test_automatic_rank_gives_a_layer_as_many_directions_as_hyperparameters(n, outputs, rank):
    response = converted(nn.Linear(20, outputs), torch.randn(4, 20), n=n)
    assert [entry.rank for entry in response.report] == [rank]


class Awkward(nn.Module):
    """One layer for every reason to leave one plain."""

    def __init__(self):
        super().__init__()
        self.words = nn.Embedding(9, 4)
        self.good = nn.Linear(4, 4)
        self.attention = nn.MultiheadAttention(4, 1, batch_first=True)
        self.unused = nn.Linear(4, 4)
        self.time_major = nn.Linear(4, 4)
        self.folded = nn.Linear(4, 4)
        self.normed = parametrizations.weight_norm(nn.Linear(4, 4))
        self.tied = nn.Linear(4, 9, bias=False)
        self.tied.weight = self.words.weight
        self.replaced = nn.Linear(4, 4)
        self.replaced.forward = lambda x: F.linear(x, self.replaced.weight)
        self.alone = nn.Linear(4, 4)
        self.last = nn.Linear(9, 3)

    def forward(self, words, scale):
        x = self.good(self.words(words)) * scale
        x = self.attention(x, x, x)[0]
        x = self.time_major(x.transpose(0, 1)).transpose(0, 1)
        x = self.folded(x.flatten(0, 1)).view_as(x)
        x = x + self.alone(x.sum((0, 1)))
        return self.last(self.tied(self.normed(self.replaced(x))))


def test_report_says_what_stays_plain_and_why():
    response = converted(Awkward(), (torch.randint(9, (4, 5)), 2.0), output_layer=False, without_rule="plain")
    reasons = {entry.name: entry.reason for entry in response.report if entry.path == "plain"}
    assert reasons == {
        "unused": "its forward is never called",
        "normed": "its weight is computed by torch.nn.utils.parametrize",
        "normed.parametrizations.weight": "no rule for this type; trained as elementary",
        "replaced": "its forward was replaced",
        "alone": "the leading axis of its input is not the batch",
        "last": "the output layer, which output_layer=False leaves plain",
    }
    responding = {name.rpartition(".")[0] for name in response.elementary}
    assert responding == {"words", "good", "attention", "attention.out_proj", "time_major", "folded"}
    assert "good                            Linear" in str(response.report)


def test_report_names_the_operations_that_fell_back():
    constructor, shape = ARCHITECTURES["grid"]
    inputs = torch.randn(5, *shape)
    response = converted(constructor(), inputs)
    response.linearized(torch.randn(5, 2), inputs)
    assert response.fallbacks == {"grid_sample": "double backward"}
    assert "operation grid_sample is linearised by double backward" in str(response.report)


def test_transformer_layers_are_seen_although_torch_fuses_them():
    constructor, shape = ARCHITECTURES["encoder"]
    response = converted(constructor().eval(), torch.randn(6, *shape))
    assert {"layer.linear1.weight", "layer.linear2.weight"} <= set(response.elementary)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model": nn.ReLU()}, "no layer of ReLU can be given gates"),
        ({"model": nn.PReLU(), "without_rule": "plain"}, "the model.*no rule for this type"),
        ({"hyperparameters": 0}, "hyperparameters must be at least 1"),
        ({"rank": 3}, r"rank must be 'auto' or in 1..2"),
        ({"rank": 0}, r"rank must be 'auto' or in 1..2"),
        ({"example": torch.randn(1, 3)}, "at least two rows"),
    ],
)
def test_what_cannot_be_converted_is_refused(change, message):
    settings = {"model": nn.Linear(3, 3), "hyperparameters": 2, "example": torch.randn(4, 3)}
    with pytest.raises(ValueError, match=message):
        convert(**(settings | change), generator=torch.Generator())


def test_converting_twice_is_refused():
    model, inputs = nn.Linear(3, 3), torch.randn(4, 3)
    converted(model, inputs)
    with pytest.raises(ValueError, match="it has gates already"):
        converted(model, inputs)


def test_removal_gives_the_plain_network_back():
    model, inputs = small_cnn(), torch.randn(4, 3, 32, 32)
    plain = copy.deepcopy(model)
    response = converted(model, inputs)
    response.remove()
    assert repr(model) == repr(plain)
    restored = pickle.loads(pickle.dumps(model))
    assert torch.equal(restored(inputs), plain(inputs))
    with pytest.raises(RuntimeError, match="removed"):
        response.linearized(torch.zeros(4, 2), inputs)


def test_copies_of_network_and_response_belong_together():
    model, inputs, h = small_cnn(), torch.randn(4, 3, 32, 32), torch.randn(4, 2)
    response = converted(model, inputs)
    nn.init.normal_(response.gates)
    twin_model, twin = copy.deepcopy((model, response))
    assert twin.model is twin_model
    expected = response.linearized(h, inputs).detach()
    with torch.no_grad():
        for parameter in (*model.parameters(), *response.parameters()):
            parameter.zero_()
    assert torch.equal(twin.linearized(h, inputs), expected)


def test_response_set_is_saved_and_restored():
    inputs, h = torch.randn(4, 3, 32, 32), torch.randn(4, 2)
    model = small_cnn()
    other = copy.deepcopy(model)
    first = converted(model, inputs)
    nn.init.normal_(first.gates)
    second = convert(other, hyperparameters=2, example=inputs, generator=torch.Generator().manual_seed(9))
    second.load_state_dict(first.state_dict())
    assert torch.equal(first.linearized(h, inputs), second.linearized(h, inputs))
