"""nn.Embedding: a row of the table per token, moved by the gates of that row."""

from __future__ import annotations

from typing import Any

import torch.nn.functional as F
from torch import nn

from selftune.hypergradients.best_response.rules.module_response import ModuleResponse
from selftune.hypergradients.best_response.rules.rule import Rule, responds
from selftune.shapes import Float, Int, Tensor


@responds(nn.Embedding)
class Embedding(Rule):
    """Token t of example i becomes W0[t] + sum over k of (V_k[t] . h_i) W_k[t].

    Gates are looked up like rows of the table, so that no example needs the moves of all tokens. Those of
    ``padding_idx`` get no gradient and stay zero. Positions, which all examples share, get an axis of examples.
    """

    any_batch_axis = True
    intercepted = False
    serves_without_examples = True
    looked_up = frozenset({"weight"})

    def obstacle(self, module: Any) -> str:
        if module.max_norm is not None:
            return "its forward changes its table (max_norm)"
        return "its gradient is scaled by frequencies (scale_grad_by_freq)" if module.scale_grad_by_freq else ""

    def forward(
        self, module: Any, response: ModuleResponse, input: Int[Tensor, "..."]
    ) -> Float[Tensor, "... features"]:
        output: Tensor = type(module).forward(module, input)
        if "weight" not in response.tensors:
            return output
        if response.without_examples and input.shape[:1] != (1,):
            input, output = input.unsqueeze(0), output.unsqueeze(0)
        directions, gates = response.directions("weight"), response.gates("weight")
        change: Tensor | None = None
        for first in range(0, len(directions), module.num_embeddings):
            own = slice(first, first + module.num_embeddings)
            gate = F.embedding(input, gates[own], module.padding_idx)
            moved = (gate * response.along(response.h, gate)).sum(-1, keepdim=True)
            moved = moved * F.embedding(input, directions[own], module.padding_idx)
            change = moved if change is None else change + moved
        if response.without_examples and response.linearized and change is not None:
            output = output.expand_as(change).clone()
        return response.add(output, change)
