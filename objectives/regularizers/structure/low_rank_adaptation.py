"""LoRA: a frozen weight plus a scaled product of two thin matrices."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from selftune.hyperparameters import Hyperparameter, Integer, Positive
from selftune.registries.reference import Reference
from selftune.regularization.regularizer import register
from selftune.regularization.reparameterization import Reparameterization
from selftune.regularization.step import Step
from selftune.shapes import Float, Tensor


def low_rank_adaptation(
    weight: Float[Tensor, "out in"],
    up: Float[Tensor, "out rank"],
    down: Float[Tensor, "rank in"],
    *,
    alpha: float | Float[Tensor, ""],
) -> Float[Tensor, "out in"]:
    """The adapted weight ``weight + (alpha / rank) up down``; no gradient to ``weight``.

    Args:
        alpha: positive.

    Source: "LoRA: Low-Rank Adaptation of Large Language Models" (arXiv 2106.09685, section 4.1).

    >>> import torch
    >>> low_rank_adaptation(torch.zeros(1, 2), torch.tensor([[2.0]]), torch.tensor([[1.0, 0.5]]), alpha=3.0)
    tensor([[6., 3.]])
    """
    return weight.detach() + alpha / len(down) * (up @ down)


@register
class LowRankAdaptation(Reparameterization):
    """LoRA: keeps the weights of layers as they are and trains an update of low rank of each.

    ``parts`` says which layers; by default all but the last one, which is trained as it is. Convolutions are seen
    as matrices of their first axis against all others. The update starts at zero and is merged on export.
    """

    name = "low_rank_adaptation"
    family = "structure"
    reference = Reference("LoRA: Low-Rank Adaptation of Large Language Models", "2106.09685")
    hyperparameters = (
        Hyperparameter("rank", Integer(1, 256, sweep=(1, 32)), 8, online=False, smooth=False, shared=True),
        Hyperparameter("alpha", Positive(sweep=(1.0, 64.0)), 16.0, shared=True),
    )
    freezes = True

    def default_layers(self, layers: tuple[str, ...]) -> tuple[str, ...]:
        return layers[:-1] or layers

    def tensors(self, weight: Tensor, values: Mapping[str, Any]) -> dict[str, Tensor]:
        rows, columns, rank = len(weight), weight[0].numel(), int(values["rank"])
        bound = 1 / math.sqrt(
            columns
        )  # Kaiming's for a slope of sqrt(5), from the generator that seeds the network
        down = weight.new_empty(rank, columns).uniform_(-bound, bound)
        return {"up": weight.new_zeros(rows, rank), "down": down}

    def weight(self, original: Tensor, values: Mapping[str, Any], extra: Any, step: Step | None) -> Tensor:
        adapted = low_rank_adaptation(original.flatten(1), extra.up, extra.down, alpha=values["alpha"])
        return adapted.view(original.shape)
