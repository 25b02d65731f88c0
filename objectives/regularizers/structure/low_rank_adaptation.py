"""LoRA: a frozen weight plus a scaled product of two thin matrices."""

from __future__ import annotations

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
