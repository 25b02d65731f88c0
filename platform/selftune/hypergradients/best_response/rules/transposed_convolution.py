"""Transposed convolutions of one to three axes: the leading axis of their weight are the input channels."""

from __future__ import annotations

from typing import Any

import torch.nn.functional as F
from torch import nn

from selftune.hypergradients.best_response.dual import dual, parts
from selftune.hypergradients.best_response.rules.module_response import ModuleResponse
from selftune.hypergradients.best_response.rules.rule import Rule, responds
from selftune.networks.precision import typed_as
from selftune.shapes import Float, Tensor

_OPERATIONS: Any = {1: F.conv_transpose1d, 2: F.conv_transpose2d, 3: F.conv_transpose3d}


@responds(nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
class TransposedConvolution(Rule):
    """Input channels are gated, before the directions: W(h) x = W0 x + sum over k of W_k (g_k x)."""

    methods = ("forward", "_output_padding")
    intercepted = False

    def forward(
        self,
        module: Any,
        response: ModuleResponse,
        input: Float[Tensor, "batch channels ..."],
        output_size: list[int] | None = None,
    ) -> Float[Tensor, "batch rows ..."]:
        spatial, operation = module.weight.dim() - 2, _OPERATIONS[module.weight.dim() - 2]
        padding = module._output_padding(
            input, output_size, module.stride, module.padding, module.kernel_size, spatial, module.dilation
        )

        def apply(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
            settings = module.stride, module.padding, padding, module.groups, module.dilation
            result: Tensor = operation(x, weight, bias, *settings)
            return result

        value, tangent = parts(input) if response.linearized else (input, None)
        output = apply(value, module.weight, module.bias)
        if tangent is not None:
            output = dual(output, apply(tangent, module.weight))
        moves, shift = response.moves("weight"), response.change("bias")
        change = None if shift is None else shift.view(-1, module.out_channels, *(1,) * spatial)
        if moves is not None:
            gated, directions = self._gated(module, response, value, moves)
            moved = apply(gated, directions)
            change = moved if change is None else moved.add_(change)
        return response.add(output, change)

    def _gated(self, module: Any, response: ModuleResponse, x: Tensor, moves: Tensor) -> tuple[Tensor, Tensor]:
        """All directions in one convolution; its input channels are ordered (group, direction, row)."""
        weight, groups, rows = module.weight, module.groups, module.in_channels // module.groups
        directions = typed_as(response.directions("weight"), weight)
        directions = directions.view(-1, groups, rows, *weight.shape[1:]).transpose(0, 1).flatten(0, 2)
        gates = moves.view(len(moves), -1, groups, rows).transpose(1, 2)
        gated = x.reshape(len(x), groups, 1, rows, -1) * typed_as(gates, x)[..., None]
        return gated.reshape(len(gated), -1, *x.shape[2:]), directions
