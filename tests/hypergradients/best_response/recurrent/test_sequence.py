"""Sequences with weights of every example's own, against torch's kernel and torch.func.jvp."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from selftune.hypergradients.best_response.recurrent.cells import CELLS
from selftune.hypergradients.best_response.recurrent.sequence import Move, Moves, Weights, linearized, perturbed

T, B, D, H = 5, 3, 4, 2
MODULES = {
    "LSTM": (nn.LSTM, {}, 4),
    "GRU": (nn.GRU, {}, 3),
    "RNN_TANH": (nn.RNN, {}, 1),
    "RNN_RELU": (nn.RNN, {"nonlinearity": "relu"}, 1),
}


def _draw(*shape):
    return torch.randn(*shape, dtype=torch.float64)


class Case:
    """A layer of torch's, inputs and a state, and moves of the weights of every example."""

    def __init__(self, mode, rank=1, bias=True):
        torch.manual_seed(0)
        build, settings, gates = MODULES[mode]
        self.cell, self.rows = CELLS[mode], gates * H
        self.module = build(D, H, bias=bias, **settings).double().requires_grad_(False)
        self.weights = Weights(*self.module._flat_weights)
        self.inputs, self.state = _draw(T, B, D), tuple(_draw(B, H) for _ in range(1 + (mode == "LSTM")))
        rows = self.rows
        moves = [Move(_draw(rank * rows, columns), _draw(B, rank * rows)) for columns in (D, H)]
        self.moves = Moves(*moves, *(_draw(B, rows) for _ in range(2 * bias)))

    def along(self, share):
        """The moves, so far along."""
        weights = [move._replace(rows=share * move.rows) for move in self.moves[:2]]
        return Moves(*weights, *(None if bias is None else share * bias for bias in self.moves[2:]))

    def by_torch(self, example, share=1.0, inputs=None, state=None):
        """What torch's module puts out for one example with its own weights, and its last state."""
        inputs, state = self.inputs if inputs is None else inputs, self.state if state is None else state
        weights = []
        for weight, move in zip(self.weights[:2], self.moves[:2], strict=True):
            moved = move.directions * move.rows[example][:, None]
            weights.append(weight + share * moved.view(-1, *weight.shape).sum(0))
        if self.weights.bias_from_inputs is not None:
            biases = zip(self.weights[2:], self.moves[2:], strict=True)
            weights += [bias + share * move[example] for bias, move in biases]
        own = dict(zip(self.module._flat_weights_names, weights, strict=True))
        state = tuple(one[example].unsqueeze(0) for one in state)
        given = state if len(state) > 1 else state[0]
        outputs, last = torch.func.functional_call(self.module, own, (inputs[:, example], given))
        return outputs, last if isinstance(last, tuple) else (last,)


CASES = [(mode, 1, True) for mode in MODULES] + [("LSTM", 2, True), ("GRU", 3, False), ("LSTM", 1, False)]


@pytest.mark.parametrize(("mode", "rank", "bias"), CASES)
def test_perturbed_runs_every_example_with_its_weights(mode, rank, bias):
    case = Case(mode, rank, bias)
    outputs, last = perturbed(case.cell, case.weights, case.moves, case.inputs, case.state)
    for example in range(B):
        expected, state = case.by_torch(example)
        torch.testing.assert_close(outputs[:, example], expected)
        for one, other in zip(last, state, strict=True):
            torch.testing.assert_close(one[example], other[0])


@pytest.mark.parametrize(("mode", "rank", "bias"), CASES)
def test_linearized_is_the_forward_derivative(mode, rank, bias):
    case = Case(mode, rank, bias)
    given = _draw(T, B, D), tuple(_draw(B, H) for _ in case.state)

    def run(share, inputs, state):
        outputs, last = perturbed(case.cell, case.weights, case.along(share), inputs, state)
        return outputs, last

    one = torch.ones((), dtype=torch.float64)
    at = (torch.zeros_like(one), case.inputs, case.state)
    (outputs, _), (expected, last) = torch.func.jvp(run, at, (one, *given))
    tangents = linearized(case.cell, case.weights, case.moves, case.inputs, outputs, case.state, *given)
    torch.testing.assert_close(tangents[0], expected)
    for tangent, other in zip(tangents, last, strict=True):
        torch.testing.assert_close(tangent[-1], other)


@pytest.mark.parametrize("mode", MODULES)
def test_linearized_has_the_gradients_of_the_forward_derivative(mode):
    case = Case(mode, rank=2)
    given = _draw(T, B, D), tuple(_draw(B, H) for _ in case.state)
    varied = [*case.moves.from_inputs, *case.moves.from_hidden, *case.moves[2:], given[0], *given[1]]
    for tensor in varied:
        tensor.requires_grad_()
    outputs, _ = perturbed(case.cell, case.weights, case.along(0.0), case.inputs, case.state)

    def run(share, inputs, state):
        return perturbed(case.cell, case.weights, case.along(share), inputs, state)

    one = torch.ones((), dtype=torch.float64)
    _, (hidden, last) = torch.func.jvp(run, (torch.zeros_like(one), case.inputs, case.state), (one, *given))
    tangents = linearized(case.cell, case.weights, case.moves, case.inputs, outputs.detach(), case.state, *given)
    probe, last_probe = _draw(T, B, H), _draw(B, H)
    expected = torch.autograd.grad((hidden * probe).sum() + (last[-1] * last_probe).sum(), varied)
    found = torch.autograd.grad((tangents[0] * probe).sum() + (tangents[-1][-1] * last_probe).sum(), varied)
    for one_, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one_, other)


def test_what_does_not_move_has_no_tangent():
    case = Case("LSTM")
    outputs, _ = case.module(case.inputs)
    state = tuple(torch.zeros(B, H, dtype=torch.float64) for _ in range(2))
    still = linearized(case.cell, case.weights, Moves(), case.inputs, outputs, state, None, None)
    assert not torch.stack(still).any()
    run, _ = perturbed(case.cell, case.weights, Moves(), case.inputs, state)
    torch.testing.assert_close(run, outputs)
