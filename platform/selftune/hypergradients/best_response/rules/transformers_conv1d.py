"""The linear layer of GPT-2 in Hugging Face's transformers, whose weight has the inputs along its leading axis."""

from __future__ import annotations

from typing import Any

from selftune.hypergradients.best_response.dual import dual, parts
from selftune.hypergradients.best_response.rules.module_response import ModuleResponse
from selftune.hypergradients.best_response.rules.rule import Rule, responds
from selftune.networks.precision import typed_as
from selftune.shapes import Float, Tensor


@responds("transformers.pytorch_utils.Conv1D")
class TransformersConv1d(Rule):
    """y = x W + b: inputs are gated, before the directions: x W(h) = x W0 + sum over k of (g_k x) W_k."""

    any_batch_axis = True
    intercepted = False

    def forward(
        self, module: Any, response: ModuleResponse, x: Float[Tensor, "... inputs"]
    ) -> Float[Tensor, "... outputs"]:
        value, tangent = parts(x) if response.linearized else (x, None)
        output = type(module).forward(module, value)
        if tangent is not None:
            output = dual(output, tangent @ module.weight)
        moves, change = response.moves("weight"), response.change("bias")
        if change is not None:
            change = response.along(change, output)
        if moves is not None:
            moves = typed_as(moves, value).view(len(moves), -1, len(module.weight))
            directions = typed_as(response.directions("weight"), module.weight)
            gated = value.unsqueeze(-2) * response.along(moves, value.unsqueeze(-2))
            moved = gated.flatten(-2) @ directions
            change = moved if change is None else moved + change
        return response.add(output, change)
