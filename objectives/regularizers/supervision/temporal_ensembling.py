"""Temporal ensembling: running averages of the model's own predictions, one per example."""

from __future__ import annotations

from selftune.regularizer import per_example
from selftune.shapes import Float, Tensor


def temporal_ensembling(
    targets: Float[Tensor, "batch classes"],
    probs: Float[Tensor, "batch classes"],
    beta: float | Float[Tensor, "*beta"] = 0.7,
    eps: float = 1e-4,
) -> Float[Tensor, "batch classes"]:
    """``beta * targets + (1 - beta) * q`` with q the clamped, renormalised predictions; carries no gradient.

    There is no bias correction: rows that start at zero sum to ``1 - beta ** visits``.

    Args:
        targets: the averages so far.
        beta: weight of the past, in [0, 1].
        eps: predictions are clamped to [eps, 1 - eps].

    Source: "Temporal Ensembling for Semi-Supervised Learning" (arXiv 1610.02242), as used in "Early-Learning
    Regularization Prevents Memorization of Noisy Labels" (arXiv 2007.00151).

    >>> import torch
    >>> temporal_ensembling(torch.zeros(1, 2), torch.tensor([[0.75, 0.25]]), beta=0.5)
    tensor([[0.3750, 0.1250]])
    """
    clamped = probs.detach().clamp(eps, 1 - eps)
    normalized = clamped / clamped.sum(dim=-1, keepdim=True)
    beta = per_example(beta, probs)
    return (beta * targets + (1 - beta) * normalized).detach()
