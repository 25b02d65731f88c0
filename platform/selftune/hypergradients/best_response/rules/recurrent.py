"""nn.LSTM, nn.GRU and nn.RNN, of several layers and both directions."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from selftune.hypergradients.best_response.dual import dual, parts
from selftune.hypergradients.best_response.recurrent.cells import State
from selftune.hypergradients.best_response.recurrent.layers import Layers
from selftune.hypergradients.best_response.rules.module_response import ModuleResponse
from selftune.hypergradients.best_response.rules.rule import Rule, responds
from selftune.networks.precision import typed_as
from selftune.shapes import Float, Tensor


@responds(nn.LSTM, nn.GRU, nn.RNN)
class Recurrent(Rule):
    """The rows of weight_ih, weight_hh and the biases, of all gates, are gated like the units of a linear layer.

    A linearized pass runs torch's own kernel for the values; the tangent is a linear recurrence beside it. A
    perturbed pass runs torch's kernel where all examples have the same h, and a loop over time where they differ.
    A mask on a weight (``networks/weight_masks.py``) is on its directions as well.
    """

    any_batch_axis = True

    def obstacle(self, module: Any) -> str:
        return "its hidden state is projected (proj_size), for which there is no rule" if module.proj_size else ""

    def batch_axis(self, module: Any) -> int | None:
        return 0 if module.batch_first else 1

    def forward(
        self,
        module: Any,
        response: ModuleResponse,
        input: Float[Tensor, "batch time inputs"] | Float[Tensor, "time batch inputs"],
        hx: Any = None,
    ) -> tuple[Tensor, Any]:
        if not isinstance(input, Tensor) or input.ndim != 3:
            given = f"a tensor of {input.ndim} axes" if isinstance(input, Tensor) else type(input).__name__
            raise NotImplementedError(
                f"a recurrent layer responds where its inputs have three axes, but it was given {given};"
                " pad the sequences and make a batch of them"
            )
        several = isinstance(hx, tuple)
        start = () if hx is None else tuple(hx) if several else (hx,)
        linear = response.linearized
        value, tangent = parts(input) if linear else (input, None)
        state, state_tangent = _parts_of_state(start) if linear else (start, None)
        if module.batch_first:
            value, tangent = value.transpose(0, 1), None if tangent is None else tangent.transpose(0, 1)
        # Nothing within is an operation of the network, so that nobody need look at it.
        with torch._C.DisableTorchFunction():
            layers = Layers(module, response)
            if linear:
                output, last, moved, last_moved = layers.linearized(value, state, tangent, state_tangent)
            elif len(response.h) == 1:
                output, last = layers.shared(value, state)
            else:
                output, last = layers.perturbed(value, state)
        if linear:
            output = dual(output, moved)
            last = tuple(dual(one, typed_as(change, one)) for one, change in zip(last, last_moved, strict=True))
        if module.batch_first:
            output = output.transpose(0, 1)
        return output, last if module.mode == "LSTM" else last[0]


def _parts_of_state(state: State) -> tuple[State, State | None]:
    split = [parts(one) for one in state]
    values = tuple(value for value, _ in split)
    if all(tangent is None for _, tangent in split):
        return values, None
    return values, tuple(torch.zeros_like(value) if tangent is None else tangent for value, tangent in split)
