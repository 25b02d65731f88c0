"""Recurrent modules in networks: against the definition, against forward mode, and what is left plain."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from selftune.hypergradients.best_response import convert
from selftune.networks.weight_masks import mask_weights, unmask_weights

N, BATCH, TIME = 3, 6, 5

MODULES = {
    "lstm": lambda: nn.LSTM(4, 3, batch_first=True),
    "lstm, two layers, both directions": lambda: nn.LSTM(4, 3, 2, batch_first=True, bidirectional=True),
    "lstm, time first": lambda: nn.LSTM(4, 3, 2),
    "lstm without bias": lambda: nn.LSTM(4, 3, bias=False, batch_first=True),
    "gru": lambda: nn.GRU(4, 3, 2, batch_first=True, bidirectional=True),
    "rnn": lambda: nn.RNN(4, 3, 2, batch_first=True),
    "rnn with relu": lambda: nn.RNN(4, 3, nonlinearity="relu", bidirectional=True),
}


class Network(nn.Module):
    """Inputs that move, and outputs and last states that count."""

    def __init__(self, recurrent, start=False):
        super().__init__()
        self.below = nn.Linear(4, 4)
        self.recurrent = recurrent
        self.start = nn.Linear(4, 3) if start else None

    def forward(self, batch):
        first = self.recurrent.batch_first
        x = self.below(batch)
        given = ()
        if self.start is not None:
            layers = self.recurrent.num_layers * (2 if self.recurrent.bidirectional else 1)
            state = self.start(batch[:, 0]).expand(layers, -1, -1).contiguous()
            given = ((state, state) if self.recurrent.mode == "LSTM" else state,)
        outputs, last = self.recurrent(x if first else x.transpose(0, 1), *given)
        outputs = outputs if first else outputs.transpose(0, 1)
        last = last if isinstance(last, tuple) else (last,)
        return torch.cat((outputs.flatten(1), *(one.transpose(0, 1).flatten(1) for one in last)), 1)


def converted(build, rank="auto", start=False):
    torch.manual_seed(0)
    network = Network(build(), start).double()
    inputs = torch.randn(BATCH, TIME, 4, dtype=torch.float64)
    response = convert(network, hyperparameters=N, example=inputs, rank=rank, generator=torch.Generator())
    nn.init.normal_(response.gates, std=0.5)
    return network, response, inputs, torch.randn(BATCH, N, dtype=torch.float64)


CASES = [(name, "auto", False) for name in MODULES]
CASES += [("lstm, two layers, both directions", 2, True), ("gru", 1, True), ("lstm, time first", 1, True)]


@pytest.mark.parametrize(("name", "rank", "start"), CASES)
def test_perturbed_modules_have_the_weights_of_each_example(name, rank, start):
    network, response, inputs, h = converted(MODULES[name], rank, start)
    assert response.responding == set(dict(network.named_parameters()))
    found = response.perturbed(h, inputs)
    for example in range(BATCH):
        own = torch.func.functional_call(network, response.weights(h[example]), (inputs,))
        torch.testing.assert_close(found[example], own[example])
    torch.testing.assert_close(response.perturbed(h[2:3], inputs)[2], found[2])  # one row for all examples


@pytest.mark.parametrize(("name", "rank", "start"), CASES)
def test_linearized_modules_have_the_first_order_of_the_perturbed_ones(name, rank, start):
    """Values, and gradients of all that is fitted."""
    _, response, inputs, h = converted(MODULES[name], rank, start)
    h = h.requires_grad_()
    value, slope = torch.autograd.functional.jvp(
        lambda d: response.perturbed(d, inputs), torch.zeros_like(h), h, create_graph=True
    )
    expected, found = value.detach() + slope, response.linearized(h, inputs)
    torch.testing.assert_close(found, expected)
    weights, fitted = torch.randn_like(found), [h, *response.parameters()]
    wanted = torch.autograd.grad(expected, fitted, weights)
    for actual, want in zip(torch.autograd.grad(found, fitted, weights), wanted, strict=True):
        torch.testing.assert_close(actual, want)


def test_values_of_a_linearized_pass_are_those_of_the_plain_network():
    """Dropout between layers included, whose draws are the same."""
    network, response, inputs, h = converted(lambda: nn.LSTM(4, 3, 3, batch_first=True, dropout=0.5))
    nn.init.zeros_(response.gates)
    torch.manual_seed(1)
    found = response.linearized(h, inputs)
    torch.manual_seed(1)
    torch.testing.assert_close(found, network(inputs))


def test_dropout_between_layers_acts_on_value_and_tangent_alike():
    _, response, inputs, h = converted(lambda: nn.LSTM(4, 3, 2, batch_first=True, dropout=0.5))
    step, found = 1e-6, {}
    for size in (step, -step):
        torch.manual_seed(1)
        found[size] = response.perturbed(size * h, inputs)
    torch.manual_seed(1)
    value = response.linearized(0 * h, inputs)
    torch.manual_seed(1)
    moved = response.linearized(h, inputs) - value
    torch.testing.assert_close(moved, (found[step] - found[-step]) / (2 * step), rtol=1e-5, atol=1e-7)


def test_a_mask_on_a_weight_is_on_its_directions():
    network, response, inputs, h = converted(MODULES["lstm"])
    mask = (torch.rand(12, 3, generator=torch.Generator().manual_seed(3)) > 0.5).double() * 2
    weights = [response.weights(row) for row in h]
    mask_weights(network.recurrent, {"weight_hh_l0": mask})
    found, linear = response.perturbed(h, inputs), response.linearized(h, inputs)
    _, slope = torch.autograd.functional.jvp(lambda d: response.perturbed(d, inputs), torch.zeros_like(h), h)
    torch.testing.assert_close(linear, network(inputs) + slope)
    unmask_weights(network.recurrent)
    for example, own in enumerate(weights):
        own["recurrent.weight_hh_l0"] = own["recurrent.weight_hh_l0"] * mask
        expected = torch.func.functional_call(network, own, (inputs,))
        torch.testing.assert_close(found[example], expected[example])


def test_the_class_of_the_state_is_that_of_the_module():
    _, response, inputs, h = converted(MODULES["lstm"])
    recurrent = response.model.recurrent
    with response._responding(h, linearized=False):
        outputs, (hidden, cell) = recurrent(inputs)
        assert outputs.shape == (BATCH, TIME, 3)
        assert hidden.shape == cell.shape == (1, BATCH, 3)


class Packed(nn.Module):
    def __init__(self):
        super().__init__()
        self.recurrent, self.head = nn.LSTM(4, 3, batch_first=True), nn.Linear(3, 2)

    def forward(self, inputs):
        lengths = torch.full((len(inputs),), inputs.shape[1])
        outputs, _ = self.recurrent(pack_padded_sequence(inputs, lengths, batch_first=True))
        return self.head(pad_packed_sequence(outputs, batch_first=True)[0])


class TimeAsBatch(nn.Module):
    def __init__(self):
        super().__init__()
        self.recurrent, self.head = nn.LSTM(4, 3), nn.Linear(3, 2)

    def forward(self, inputs):
        return self.head(self.recurrent(inputs)[0])


def test_what_does_not_respond_says_why():
    inputs = torch.randn(BATCH, TIME, 4)
    report = str(
        convert(
            Packed(), hyperparameters=N, example=inputs, generator=torch.Generator(), without_rule="plain"
        ).report
    )
    assert "LSTM    plain          the leading axis of its input is not the batch" in report
    report = str(
        convert(
            TimeAsBatch(), hyperparameters=N, example=inputs, generator=torch.Generator(), without_rule="plain"
        ).report
    )
    assert "it mixes the examples of a batch" in report
    projected = nn.Sequential(nn.Linear(4, 4), nn.LSTM(4, 3, proj_size=2, batch_first=True))
    response = convert(
        projected, hyperparameters=N, example=inputs, generator=torch.Generator(), without_rule="plain"
    )
    assert "its hidden state is projected" in str(response.report)
    outputs, _ = response.linearized(torch.randn(BATCH, N), inputs)
    assert outputs.shape == (BATCH, TIME, 2)
