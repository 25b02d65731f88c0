"""nn.Bilinear."""

from __future__ import annotations

from typing import Any

import torch.nn.functional as F
from torch import nn

from selftune.hypergradients.best_response.dual import parts
from selftune.hypergradients.best_response.rules.module_response import ModuleResponse
from selftune.hypergradients.best_response.rules.rule import Rule, responds
from selftune.networks.precision import typed_as
from selftune.shapes import Float, Tensor


@responds(nn.Bilinear)
class Bilinear(Rule):
    """The output of row r is x^T W0_r y + b0_r + g_r (x^T W_k,r y) + c_r b_r."""

    any_batch_axis = True
    intercepted = False

    def forward(
        self,
        module: Any,
        response: ModuleResponse,
        input1: Float[Tensor, "... first"],
        input2: Float[Tensor, "... second"],
    ) -> Float[Tensor, "... rows"]:
        output = F.bilinear(input1, input2, module.weight, module.bias)
        moves, change = response.moves("weight"), response.change("bias")
        if change is not None:
            change = response.along(change, output)
        if moves is not None:
            x, y = (parts(each)[0] if response.linearized else each for each in (input1, input2))
            directed = F.bilinear(x, y, typed_as(response.directions("weight"), module.weight))
            directed = directed * response.along(moves, directed)
            moved = directed.view(*directed.shape[:-1], -1, module.out_features).sum(-2)
            change = moved if change is None else moved + change
        return response.add(output, change)
