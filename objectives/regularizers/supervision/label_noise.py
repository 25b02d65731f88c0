"""Symmetric label noise for noisy inner problems."""

from __future__ import annotations

from selftune.shapes import Float, Int, Tensor


def label_noise(
    labels: Int[Tensor, "batch"],
    uniform: Float[Tensor, "batch"],
    offset: Float[Tensor, "batch"],
    rate: float | Float[Tensor, "*rate"],
    num_classes: int,
) -> Int[Tensor, "batch"]:
    """Replaces labels whose draw is below ``rate`` by one of the other classes, chosen by ``offset``.

    Args:
        labels: in [0, num_classes).
        uniform, offset: draws from [0, 1).
        rate: probability of a wrong label, in [0, 1]. Noise that redraws over all classes, the true one
            included, at rate r corresponds to ``r * (num_classes - 1) / num_classes`` here.

    Raises:
        ValueError: with fewer than two classes, where there is no other class.

    Source: corruption protocol of "Early-Learning Regularization Prevents Memorization of Noisy Labels"
    (arXiv 2007.00151).

    >>> import torch
    >>> label_noise(torch.tensor([0, 1, 2]), torch.tensor([0.9, 0.1, 0.1]), torch.tensor([0.0, 0.0, 0.9]), 0.4, 3)
    tensor([0, 2, 1])
    """
    if num_classes < 2:
        raise ValueError(f"label noise needs at least two classes, got num_classes={num_classes}.")
    # a draw just below 1 may round up to num_classes - 1, which would be the true class again
    shift = 1 + (offset * (num_classes - 1)).long().clamp(max=num_classes - 2)
    wrong = (labels + shift.to(labels.dtype)) % num_classes
    return wrong.where(uniform < rate, labels)
