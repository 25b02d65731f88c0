"""Convolutions of one to three axes, grouped, strided, dilated and padded in every mode."""

from __future__ import annotations

from typing import Any

from torch import nn

from selftune.hypergradients.best_response.dual import dual, parts
from selftune.hypergradients.best_response.rules.module_response import ModuleResponse
from selftune.hypergradients.best_response.rules.rule import Rule, responds
from selftune.networks.precision import typed_as
from selftune.shapes import Float, Tensor


@responds(nn.Conv1d, nn.Conv2d, nn.Conv3d)
class Convolution(Rule):
    """Output channels are gated like the units of a linear layer."""

    methods = ("forward", "_conv_forward")
    intercepted = False

    def forward(
        self, module: Any, response: ModuleResponse, input: Float[Tensor, "batch channels ..."]
    ) -> Float[Tensor, "batch rows ..."]:
        value, tangent = parts(input) if response.linearized else (input, None)
        output: Tensor = module._conv_forward(value, module.weight, module.bias)
        change = self._change(module, response, value)
        if change is None:
            if tangent is None:
                return output
            return dual(output, module._conv_forward(tangent, module.weight, None))
        change = typed_as(change, output)
        if not response.linearized:
            return output + change
        if tangent is not None:
            change = module._conv_forward(tangent, module.weight, None).add_(change)
        return dual(output, change if change.shape == output.shape else change.expand_as(output))

    def _change(self, module: Any, response: ModuleResponse, input: Tensor) -> Tensor | None:
        moves, shift = response.moves("weight"), response.change("bias")
        rows, flat = module.out_channels, (1,) * (module.weight.dim() - 2)
        if shift is not None:
            shift = shift.view(-1, rows, *flat)
        if moves is None:
            return shift
        directions = typed_as(response.directions("weight"), module.weight)
        if moves.shape[1] == rows:
            change: Tensor = module._conv_forward(input, directions, None) * moves.view(-1, rows, *flat)
        else:
            change = self._several_directions(module, directions, moves, input)
        # Two operations in place of addcmul, which is slow where it broadcasts.
        return change if shift is None else change.add_(shift)

    def _several_directions(self, module: Any, directions: Tensor, moves: Tensor, input: Tensor) -> Tensor:
        """All directions in one convolution; its output channels are ordered (group, direction, row)."""
        groups, rows, flat = module.groups, module.out_channels // module.groups, (1,) * (module.weight.dim() - 2)
        weight = directions.view(-1, groups, rows, *directions.shape[1:]).transpose(0, 1).flatten(0, 2)
        directed = module._conv_forward(input, weight, None)
        directed = directed.view(len(directed), groups, -1, rows, *directed.shape[2:])
        gates = moves.view(len(moves), -1, groups, rows, *flat).transpose(1, 2)
        change: Tensor = (directed * gates).sum(2).flatten(1, 2)
        return change
