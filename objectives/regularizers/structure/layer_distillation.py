"""Distillation layer by layer: features of a compressed network follow those of the original."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from selftune.hyperparameters import Positive
from selftune.registries.reference import Reference
from selftune.regularization.decorators import penalty
from selftune.shapes import Float, Tensor


@penalty(
    family="structure",
    reference=Reference("PELA: Learning Parameter-Efficient Models with Low-Rank Approximation", "2310.10700"),
    strength=Positive(sweep=(0.1, 100.0)),
    default=1.0,
    needs={"student": "layer_features", "teacher": "reference_layer_features"},
)
def layer_distillation(
    student: Float[Tensor, "layers batch *features"] | Sequence[Tensor],
    teacher: Float[Tensor, "layers batch *features"] | Sequence[Tensor],
) -> Float[Tensor, "batch"]:
    """Mean over layers of the mean squared difference between the features of every example.

    No gradient to the teacher. Layers of different shapes are given as lists of tensors (batch, ...).

    Source: "PELA: Learning Parameter-Efficient Models with Low-Rank Approximation" (arXiv 2310.10700), feature
    distillation.

    >>> layer_distillation(torch.zeros(2, 1, 2), torch.tensor([[[2.0, 0.0]], [[0.0, 0.0]]]))
    tensor([1.])
    """
    layers = [
        (own - target.detach()).square().reshape(len(own), -1).mean(dim=1)
        for own, target in zip(student, teacher, strict=True)
    ]
    return torch.stack(layers).mean(dim=0)
