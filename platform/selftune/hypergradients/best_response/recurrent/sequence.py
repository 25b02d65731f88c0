"""One direction of one recurrent layer over a whole sequence, where every example has weights of its own."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F

from selftune.hypergradients.best_response.recurrent.cells import Cell, Run, State, Weights
from selftune.shapes import Float, Tensor


class Move(NamedTuple):
    """How far a weight is from the one that all examples share.

    Row i of it moves by the sum over r of ``rows[:, r, i] * directions[r, i]``.

    Args:
        directions: R of them, one below the other.
        rows: for every example, or one row for all.
    """

    directions: Float[Tensor, "R*rows columns"]
    rows: Float[Tensor, "batch R*rows"]

    def scaled(
        self, directed: Float[Tensor, "*time batch R*rows"], rows: int
    ) -> Float[Tensor, "*time batch rows"]:
        """What the move adds to W x, from the products of x with the directions."""
        added = directed * self.rows
        if added.shape[-1] != rows:
            added = added.unflatten(-1, (-1, rows)).sum(-2)  # type: ignore[no-untyped-call]
        return added


class Moves(NamedTuple):
    """Those of the two weights and the two biases; None of what stays."""

    from_inputs: Move | None = None
    from_hidden: Move | None = None
    bias_from_inputs: Float[Tensor, "batch rows"] | None = None
    bias_from_hidden: Float[Tensor, "batch rows"] | None = None


def linearized(
    cell: Cell,
    weights: Weights,
    moves: Moves,
    inputs: Float[Tensor, "time batch inputs"],
    outputs: Float[Tensor, "time batch hidden"],
    state: State,
    input_tangent: Float[Tensor, "time batch inputs"] | None,
    state_tangent: State | None,
) -> State:
    """Tangents of the states after every time step: what they move by, to first order, with weights and inputs.

    Args:
        weights, inputs, state: constants: where the derivative is taken.
        outputs: the hidden states that they give, a constant.
        moves: of the weights.
        input_tangent, state_tangent: what ``inputs`` and ``state`` move by; None where they do not.

    Returns:
        Each (time, batch, hidden), differentiable in the moves and the tangents.
    """
    with torch.no_grad():
        before = torch.cat((state[0][None], outputs[:-1]))
    run, rows = Run(inputs, before, outputs, state, weights), len(weights.from_hidden)
    moved = None if input_tangent is None else F.linear(input_tangent, weights.from_inputs)
    terms = [(moves.from_inputs, inputs), (moves.from_hidden, before)]
    biases = [moves.bias_from_inputs, moves.bias_from_hidden]
    if cell.joint:
        drives = [_drive(moved, terms, biases, rows)]
    else:
        drives = [_drive(moved, terms[:1], biases[:1], rows), _drive(None, terms[1:], biases[1:], rows)]
    if state_tangent is None:
        state_tangent = tuple(torch.zeros_like(tensor) for tensor in state)
    shape = (*outputs.shape[:2], rows)
    still = outputs.new_zeros(())
    full = tuple((still if drive is None else drive).expand(shape) for drive in drives)
    return cell.tangent(run, full, state_tangent)


def _drive(
    total: Tensor | None, terms: list[tuple[Move | None, Tensor]], biases: list[Tensor | None], rows: int
) -> Tensor | None:
    """``total`` and what moves of weights and biases add to it, in place where there is something already."""
    for move, inputs in terms:
        if move is None:
            continue
        directed = F.linear(inputs, move.directions)
        if total is not None and directed.shape[-1] == rows:
            total.addcmul_(directed, move.rows)
        else:
            added = move.scaled(directed, rows)
            total = added if total is None else total.add_(added)
    for bias in biases:
        if bias is not None:
            total = bias if total is None else total + bias if total.ndim < 3 else total.add_(bias)
    return total


def perturbed(
    cell: Cell, weights: Weights, moves: Moves, inputs: Float[Tensor, "time batch inputs"], state: State
) -> tuple[Float[Tensor, "time batch hidden"], State]:
    """The hidden states after every time step and the last state, with weights that have moved.

    All inputs are projected at once; the products with W_hh and its directions are one in every time step.
    Differentiable in everything, by torch's own graph.
    """
    rows, move, weight = len(weights.from_hidden), moves.from_hidden, weights.from_hidden
    from_inputs = F.linear(inputs, weights.from_inputs, weights.bias_from_inputs)
    added = _drive(None, [(moves.from_inputs, inputs)], [moves.bias_from_inputs], rows)
    if added is not None:
        from_inputs = from_inputs + added
    shift = moves.bias_from_hidden
    if weights.bias_from_hidden is not None:
        shift = weights.bias_from_hidden if shift is None else weights.bias_from_hidden + shift
    if move is not None:
        weight = torch.cat((weight, move.directions))
    outputs = []
    for projected in from_inputs.unbind(0):
        from_hidden, *directed = F.linear(state[0], weight).tensor_split((rows,), dim=1)
        if move is not None:
            from_hidden = from_hidden + move.scaled(directed[0], rows)
        if shift is not None:
            from_hidden = from_hidden + shift
        state = cell.step(projected, from_hidden, state)
        outputs.append(state[0])
    return torch.stack(outputs), state
