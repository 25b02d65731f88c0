"""Triplet loss: positives nearer than negatives by a margin."""

from __future__ import annotations

import torch

from selftune.shapes import Float, Tensor


def triplet(
    anchors: Float[Tensor, "batch dim"],
    positives: Float[Tensor, "batch dim"],
    negatives: Float[Tensor, "batch dim"],
    margin: float | Float[Tensor, "*batch"] = 0.2,
    squared: bool = True,
) -> Float[Tensor, "batch"]:
    """``max(0, d(anchor, positive) - d(anchor, negative) + margin)``, d the (squared) Euclidean distance.

    Nothing is normalised. Without ``squared``, a distance of zero has the gradient zero.

    Args:
        margin: positive; shape () or (batch,).

    Source: "FaceNet: A Unified Embedding for Face Recognition and Clustering" (arXiv 1503.03832).

    >>> zero = torch.zeros(1, 1)
    >>> triplet(zero, zero + 1, zero + 2, margin=5.0), triplet(zero, zero + 1, zero + 2, margin=5.0, squared=False)
    (tensor([2.]), tensor([4.]))
    """
    near = (anchors - positives).square().sum(dim=-1)
    far = (anchors - negatives).square().sum(dim=-1)
    if not squared:
        near, far = _root(near), _root(far)
    return torch.relu(near - far + margin)


def _root(squares: Tensor) -> Tensor:
    positive = squares > 0
    return torch.where(positive, squares, 1).sqrt() * positive
