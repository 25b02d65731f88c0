"""Self-distillation with the ground truth mixed into the targets."""

from __future__ import annotations

from selftune.regularizer import per_example
from selftune.shapes import Float, Tensor


def self_distillation_targets(
    targets: Float[Tensor, "batch classes"],
    predictions: Float[Tensor, "batch classes"],
    alpha: float | Float[Tensor, "*alpha"] = 0.5,
) -> Float[Tensor, "batch classes"]:
    """``alpha * targets + (1 - alpha) * predictions`` of the round before; no gradient flows to those.

    Args:
        alpha: weight of the ground truth, in [0, 1].

    Source: "Even your Teacher Needs Guidance: Ground-Truth Targets Dampen Regularization Imposed by
    Self-Distillation" (arXiv 2102.13088).

    >>> import torch
    >>> self_distillation_targets(torch.tensor([[1.0, 0.0]]), torch.tensor([[0.5, 0.5]]), alpha=0.5)
    tensor([[0.7500, 0.2500]])
    """
    alpha = per_example(alpha, targets)
    return alpha * targets + (1 - alpha) * predictions.detach()
