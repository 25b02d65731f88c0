"""Triplet loss: positives nearer than negatives by a margin."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from selftune.hyperparameters import Hyperparameter, Positive
from selftune.registries.reference import Reference
from selftune.regularization.regularizer import Regularizer, register
from selftune.regularization.step import Step
from selftune.shapes import Bool, Float, Tensor


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


@register
class Triplet(Regularizer):
    """Triplet loss of unit-length features, with a random positive and a random negative for every example.

    Positives share the example's label, negatives do not; an example without one of them has no term.
    """

    name = "triplet"
    family = "representation"
    kind = "penalty"
    reference = Reference("FaceNet: A Unified Embedding for Face Recognition and Clustering", "1503.03832")
    hyperparameters = (
        Hyperparameter("strength", Positive(sweep=(0.1, 10.0)), 1.0),
        Hyperparameter("margin", Positive(sweep=(0.05, 1.0)), 0.2),
    )
    needs = frozenset({"features", "labels"})

    def penalty(self, step: Step) -> Float[Tensor, "batch"]:
        features = F.normalize(step.features, dim=-1)
        same = step.labels[:, None] == step.labels
        others = ~torch.eye(len(same), dtype=torch.bool, device=same.device)
        positive, has_positive = self._choice(step, same & others)
        negative, has_negative = self._choice(step, ~same)
        values = triplet(features, features[positive], features[negative], self.value(step, "margin"))
        return values * (has_positive & has_negative)

    @staticmethod
    def _choice(step: Step, allowed: Bool[Tensor, "batch batch"]) -> tuple[Tensor, Tensor]:
        """One allowed column per row, all equally likely, and whether there is any."""
        keys = (step.rand(*allowed.shape) + 1) * allowed
        return keys.argmax(dim=1), allowed.any(dim=1)
