"""nn.Linear, with any number of axes before the features."""

from __future__ import annotations

from typing import Any

from torch import nn

from selftune.hypergradients.best_response.rules.module_response import ModuleResponse
from selftune.hypergradients.best_response.rules.rule import Rule, responds
from selftune.shapes import Float, Tensor


@responds(nn.Linear)
class Linear(Rule):
    """The output of row i is W0_i x + b0_i + g_i (W_r,i x) + c_i b_r,i."""

    any_batch_axis = True
    intercepted = False

    def forward(
        self, module: Any, response: ModuleResponse, input: Float[Tensor, "... features"]
    ) -> Float[Tensor, "... rows"]:
        return response.linear(input, "weight", "bias")
