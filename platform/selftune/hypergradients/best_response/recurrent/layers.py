"""All layers and directions of a recurrent module, where every example has weights of its own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F

from selftune.hypergradients.best_response.recurrent.cells import CELLS, State, Weights
from selftune.hypergradients.best_response.recurrent.sequence import Move, Moves, linearized, perturbed
from selftune.hypergradients.best_response.rules.module_response import ModuleResponse
from selftune.networks.precision import typed_as
from selftune.networks.weight_masks import mask_of
from selftune.shapes import Float, Tensor

_VF: Any = torch._VF
_KERNELS: dict[str, Callable[..., Any]] = {
    "LSTM": _VF.lstm,
    "GRU": _VF.gru,
    "RNN_TANH": _VF.rnn_tanh,
    "RNN_RELU": _VF.rnn_relu,
}


class Layers:
    """One pass through a recurrent module, time first.

    States are those of all layers and directions, (layers * directions, batch, hidden) each, as torch has them;
    one that is empty means zeros.

    Args:
        module: nn.LSTM, nn.GRU or nn.RNN; its weights are read once.
        response: of the module.
    """

    def __init__(self, module: Any, response: ModuleResponse) -> None:
        self.module = module
        self.response = response
        self.cell = CELLS[module.mode]
        self.directions = 2 if module.bidirectional else 1
        self.names: list[list[str]] = module._all_weights
        self.weights = [Weights(*(getattr(module, name) for name in names)) for names in self.names]

    def linearized(
        self,
        input: Float[Tensor, "time batch inputs"],
        state: State,
        tangent: Float[Tensor, "time batch inputs"] | None,
        state_tangent: State | None,
    ) -> tuple[Tensor, State, Tensor, State]:
        """Outputs and last state, constants, and what they move by to first order."""
        state = self._started(input, state)
        last, last_moved = [], []
        for layer in range(self.module.num_layers):
            if layer:
                input, tangent = self._dropped(input, tangent)
            here = slice(layer * self.directions, (layer + 1) * self.directions)
            with torch.no_grad():
                given = tuple(one[here].contiguous() for one in state)
                output, *ends = self._kernel(input, given, self.weights[here], layers=1)
            last.append(tuple(ends))
            with torch.autocast(input.device.type, enabled=False):
                sides = [
                    self._tangents(index, input, output, state, tangent, state_tangent)
                    for index in range(here.start, here.stop)
                ]
            tangent = torch.cat([moved for moved, _ in sides], 2)
            last_moved += [end for _, end in sides]
            input = output
        assert tangent is not None
        ends = tuple(torch.cat(one) for one in zip(*last, strict=True))
        return input, ends, tangent, tuple(torch.stack(one) for one in zip(*last_moved, strict=True))

    def _tangents(
        self,
        index: int,
        input: Tensor,
        output: Tensor,
        state: State,
        tangent: Tensor | None,
        state_tangent: State | None,
    ) -> tuple[Tensor, State]:
        """What the outputs and the last state of one direction of a layer move by."""
        weights, size = self.weights[index], self.module.hidden_size
        side = index % self.directions
        like = weights.from_hidden
        moved = linearized(
            self.cell,
            weights,
            self._moves(index),
            typed_as(_turned(input, side), like),
            typed_as(_turned(output[..., side * size : (side + 1) * size], side), like),
            tuple(typed_as(one[index], like) for one in state),
            None if tangent is None else typed_as(_turned(tangent, side), like),
            None if state_tangent is None else tuple(typed_as(one[index], like) for one in state_tangent),
        )
        return _turned(moved[0], side), tuple(one[-1] for one in moved)

    def perturbed(self, input: Float[Tensor, "time batch inputs"], state: State) -> tuple[Tensor, State]:
        """Outputs and last state, where every example has its own weights."""
        state = self._started(input, state)
        last = []
        for layer in range(self.module.num_layers):
            if layer:
                input, _ = self._dropped(input, None)
            sides = []
            for side in range(self.directions):
                index = layer * self.directions + side
                start = tuple(one[index] for one in state)
                weights, moves = self.weights[index], self._moves(index)
                output, end = perturbed(self.cell, weights, moves, _turned(input, side), start)
                sides.append(_turned(output, side))
                last.append(end)
            input = torch.cat(sides, 2)
        return input, tuple(torch.stack(one) for one in zip(*last, strict=True))

    def shared(self, input: Float[Tensor, "time batch inputs"], state: State) -> tuple[Tensor, State]:
        """Outputs and last state, where all examples have the same weights, by torch's kernel."""
        moved = [Weights(*(self._moved(name) for name in names)) for names in self.names]
        output, *last = self._kernel(input, self._started(input, state), moved, self.module.num_layers)
        return output, tuple(last)

    # What they have in common --------------------------------------------------------------------------

    def _kernel(self, input: Tensor, state: State, weights: list[Weights], layers: int) -> Any:
        """Outputs and every tensor of the last state."""
        module = self.module
        flat = [tensor for one in weights for tensor in one if tensor is not None]
        given = list(state) if len(state) > 1 else state[0]
        dropout = module.dropout if layers > 1 else 0.0
        settings = (module.bias, layers, dropout, module.training, module.bidirectional, False)
        return _KERNELS[module.mode](input, given, flat, *settings)

    def _started(self, input: Tensor, state: State) -> State:
        module = self.module
        if state:
            return state
        shape = (module.num_layers * self.directions, input.shape[1], module.hidden_size)
        return tuple(input.new_zeros(shape) for _ in range(2 if module.mode == "LSTM" else 1))

    def _dropped(self, input: Tensor, tangent: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """Dropout between layers, by one mask."""
        module = self.module
        if not (module.training and module.dropout):
            return input, tangent
        mask = F.dropout(torch.ones_like(input), module.dropout)
        return input * mask, None if tangent is None else tangent * mask

    def _moves(self, index: int) -> Moves:
        names = self.names[index]
        biases = [self._typed(self.response.change(name)) for name in names[2:]]
        return Moves(self._move(names[0]), self._move(names[1]), *biases)

    def _move(self, name: str) -> Move | None:
        rows = self.response.moves(name)
        if rows is None:
            return None
        directions, mask = self.response.directions(name), mask_of(self.module, name)
        if mask is not None:
            directions = (directions.view(-1, *mask.shape) * mask).flatten(0, 1)
        return Move(typed_as(directions, self._like), typed_as(rows, self._like))

    def _moved(self, name: str) -> Tensor:
        """The weight or bias of this name, where all examples have the same."""
        own: Tensor = getattr(self.module, name)
        change, mask = self._typed(self.response.change(name)), mask_of(self.module, name)
        if change is None:
            return own
        return own + (change[0] if mask is None else change[0] * mask)

    def _typed(self, change: Tensor | None) -> Tensor | None:
        return None if change is None else typed_as(change, self._like)

    @property
    def _like(self) -> Tensor:
        return self.weights[0].from_hidden


def _turned(sequence: Tensor, side: int) -> Tensor:
    """As the forward direction sees it, or the one that begins at the end."""
    return sequence.flip(0) if side else sequence
