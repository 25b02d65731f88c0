"""Progressive self-distillation: targets softened by the predictions of the epoch before."""

from __future__ import annotations

from selftune.regularizer import per_example
from selftune.shapes import Float, Tensor


def progressive_self_distillation(
    targets: Float[Tensor, "batch classes"],
    past_probs: Float[Tensor, "batch classes"],
    progress: float | Float[Tensor, ""],
    final_weight: float | Float[Tensor, "*final_weight"] = 0.8,
) -> Float[Tensor, "batch classes"]:
    """``(1 - alpha) * targets + alpha * past_probs`` with ``alpha = final_weight * progress``.

    Args:
        past_probs: predictions of the epoch before, in the first epoch the targets; no gradient flows to them.
        progress: (epoch + 1) / epochs with epochs counted from 0, in [0, 1].
        final_weight: alpha at the end, in [0, 1].

    Source: "Self-Knowledge Distillation with Progressive Refinement of Targets" (arXiv 2006.12000).

    >>> import torch
    >>> progressive_self_distillation(torch.tensor([[1.0, 0.0]]), torch.tensor([[0.5, 0.5]]), 0.5)
    tensor([[0.8000, 0.2000]])
    """
    alpha = per_example(final_weight * progress, targets)
    return (1 - alpha) * targets + alpha * past_probs.detach()
