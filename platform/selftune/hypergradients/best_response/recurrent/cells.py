"""The cells of nn.LSTM, nn.GRU and nn.RNN: one step of them, and their tangent over a whole sequence."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar, NamedTuple

import torch
import torch.nn.functional as F

from selftune.hypergradients.best_response.recurrent.linear_recurrence import gated_recurrence, lstm_recurrence
from selftune.shapes import Float, Tensor

State = tuple[Tensor, ...]
"""Hidden state (batch, hidden), in an LSTM the cell state of the same shape after it."""

_sigmoid_slope = torch.ops.aten.sigmoid_backward.grad_input  # (factor, sigmoid(a)) -> factor * sigmoid'(a)
_tanh_slope = torch.ops.aten.tanh_backward.grad_input


class Weights(NamedTuple):
    """Those of one direction of one layer; they are the same for all examples."""

    from_inputs: Float[Tensor, "rows inputs"]
    from_hidden: Float[Tensor, "rows hidden"]
    bias_from_inputs: Float[Tensor, "rows"] | None = None
    bias_from_hidden: Float[Tensor, "rows"] | None = None


class Run(NamedTuple):
    """A run over a sequence whose tangent is wanted; its tensors are constants.

    Args:
        inputs: x of every time step.
        before: h before every time step.
        outputs: h after every time step.
        state: the state that it started from.
        weights: those that it ran with.
    """

    inputs: Float[Tensor, "time batch inputs"]
    before: Float[Tensor, "time batch hidden"]
    outputs: Float[Tensor, "time batch hidden"]
    state: State
    weights: Weights

    def from_inputs(self) -> Float[Tensor, "time batch rows"]:
        """W_ih x + b_ih of every time step."""
        return F.linear(self.inputs, self.weights.from_inputs, self.weights.bias_from_inputs)

    def from_hidden(self) -> Float[Tensor, "time batch rows"]:
        """W_hh h + b_hh of every time step."""
        return F.linear(self.before, self.weights.from_hidden, self.weights.bias_from_hidden)

    def from_both(self) -> Float[Tensor, "time batch rows"]:
        """Their sum."""
        total, weights = self.from_inputs(), self.weights
        total.view(-1, total.shape[-1]).addmm_(self.before.flatten(0, 1), weights.from_hidden.t())
        return total if weights.bias_from_hidden is None else total.add_(weights.bias_from_hidden)


class Cell(ABC):
    """What a time step does, and what its derivative is."""

    joint: ClassVar[bool] = True
    """Whether what inputs and hidden state give is only ever added, so that one drive will do for the tangent."""

    @abstractmethod
    def step(self, from_inputs: Tensor, from_hidden: Tensor, state: State) -> State:
        """The state after a time step, from W_ih x + b_ih and W_hh h + b_hh."""

    @abstractmethod
    def tangent(self, run: Run, drives: tuple[Tensor, ...], state: State) -> State:
        """Tangents of all states of a run, each (time, batch, hidden).

        Args:
            run: the run.
            drives: what W_ih x + b_ih moves by, and what W_hh h + b_hh moves by where h does not move, each
                (time, batch, rows); their sum alone where the cell is ``joint``.
            state: the tangent of the state that the run started from.
        """


class LSTMCell(Cell):
    """Gates in the order of torch: input, forget, candidate, output."""

    def step(self, from_inputs: Tensor, from_hidden: Tensor, state: State) -> State:
        i, f, g, o = (from_inputs + from_hidden).chunk(4, 1)
        c = torch.sigmoid(f) * state[1] + torch.sigmoid(i) * torch.tanh(g)
        return torch.sigmoid(o) * torch.tanh(c), c

    def tangent(self, run: Run, drives: tuple[Tensor, ...], state: State) -> State:
        with torch.no_grad():
            slopes, keep, out = _lstm_slopes(run)
        (drive,), (h, c) = drives, state
        return lstm_recurrence(drive, h, c, run.weights.from_hidden, slopes, keep, out)


def _lstm_slopes(run: Run) -> tuple[Tensor, Tensor, Tensor]:
    """Slopes of the gates, of the cell state in the one before, and of the hidden state in the cell state.

    In few and fused operations: at these sizes memory that is asked for anew costs more than what is done with it.
    """
    gates = run.from_both().unflatten(2, (4, -1))  # type: ignore[no-untyped-call]
    gates[:, :, :2].sigmoid_()
    gates[:, :, 2].tanh_()
    gates[:, :, 3].sigmoid_()
    i, f, g, o = gates.unbind(2)
    cells = i.new_empty(len(i) + 1, *i.shape[1:])
    torch.mul(i, g, out=cells[1:])
    cells[0] = run.state[1]
    for before, cell, forget in zip(cells, cells[1:], f, strict=False):
        cell.addcmul_(forget, before)
    slopes, bounded = torch.empty_like(gates), torch.tanh(cells[1:])
    _sigmoid_slope(g, i, grad_input=slopes[:, :, 0])
    _sigmoid_slope(cells[:-1], f, grad_input=slopes[:, :, 1])
    _tanh_slope(i, g, grad_input=slopes[:, :, 2])
    _sigmoid_slope(bounded, o, grad_input=slopes[:, :, 3])
    return slopes.flatten(2), f.contiguous(), _tanh_slope(o, bounded, grad_input=bounded)


class GRUCell(Cell):
    """Gates in the order of torch: reset, update, candidate; the candidate's reset acts on W_hn h + b_hn."""

    joint = False

    def step(self, from_inputs: Tensor, from_hidden: Tensor, state: State) -> State:
        (h,) = state
        (xr, xz, xn), (hr, hz, hn) = from_inputs.chunk(3, 1), from_hidden.chunk(3, 1)
        r, z = torch.sigmoid(xr + hr), torch.sigmoid(xz + hz)
        n = torch.tanh(xn + r * hn)
        return (n + z * (h - n),)

    def tangent(self, run: Run, drives: tuple[Tensor, ...], state: State) -> State:
        with torch.no_grad():
            in_inputs, in_hidden, keep = _gru_slopes(run)
        from_inputs, from_hidden = drives
        drive = (from_inputs * in_inputs).addcmul_(from_hidden, in_hidden)
        drive = drive.unflatten(2, (3, -1)).sum(2)  # type: ignore[no-untyped-call]
        return (gated_recurrence(drive, state[0], run.weights.from_hidden, in_hidden, keep),)


def _gru_slopes(run: Run) -> tuple[Tensor, Tensor, Tensor]:
    """Slopes of the hidden state in what the inputs give, in what the hidden state gives, and in itself."""
    gates, hidden = run.from_inputs(), run.from_hidden()
    size = run.before.shape[2]
    gates[:, :, : 2 * size].add_(hidden[:, :, : 2 * size]).sigmoid_()
    (r, z, n), candidate = gates.chunk(3, 2), hidden[:, :, 2 * size :]
    n.addcmul_(r, candidate).tanh_()
    slopes, recurrent = torch.empty_like(gates), torch.empty_like(gates)
    to_reset, to_update, to_candidate = slopes.chunk(3, 2)
    _tanh_slope(1 - z, n, grad_input=to_candidate)
    _sigmoid_slope(to_candidate * candidate, r, grad_input=to_reset)
    _sigmoid_slope(run.before - n, z, grad_input=to_update)
    recurrent[:, :, : 2 * size] = slopes[:, :, : 2 * size]
    torch.mul(to_candidate, r, out=recurrent[:, :, 2 * size :])
    return slopes, recurrent, z.contiguous()


class RNNCell(Cell):
    """An Elman cell; ``relu`` in place of tanh."""

    def __init__(self, relu: bool = False) -> None:
        self._relu = relu

    def step(self, from_inputs: Tensor, from_hidden: Tensor, state: State) -> State:
        total = from_inputs + from_hidden
        return (torch.relu(total) if self._relu else torch.tanh(total),)

    def tangent(self, run: Run, drives: tuple[Tensor, ...], state: State) -> State:
        with torch.no_grad():
            h = run.outputs
            slopes = (h > 0).to(h.dtype) if self._relu else 1 - h * h
        return (gated_recurrence(slopes * drives[0], state[0], run.weights.from_hidden, slopes),)


CELLS: dict[str, Cell] = {
    "LSTM": LSTMCell(),
    "GRU": GRUCell(),
    "RNN_TANH": RNNCell(),
    "RNN_RELU": RNNCell(relu=True),
}
"""Cells by the ``mode`` of torch's modules."""
