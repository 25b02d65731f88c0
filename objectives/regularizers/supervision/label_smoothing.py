"""Label smoothing."""

from __future__ import annotations

from selftune.hyperparameters import Hyperparameter, StartRule, Unit
from selftune.registries.reference import Reference
from selftune.regularization.decorators import target
from selftune.shapes import Float, Tensor


@target(
    family="supervision",
    reference=Reference("Rethinking the Inception Architecture for Computer Vision", "1512.00567"),
    hyperparameters=[
        Hyperparameter(
            "epsilon",
            Unit(sweep=(0.0, 0.5)),
            0.1,
            start=StartRule(
                0.1, "Rethinking the Inception Architecture for Computer Vision (1512.00567), section 7"
            ),
        )
    ],
    order="smoothing",
    requires=["class_probabilities"],
)
def label_smoothing(
    targets: Float[Tensor, "batch *positions classes"], epsilon: float | Float[Tensor, "*epsilon"] = 0.1
) -> Float[Tensor, "batch *positions classes"]:
    """Mixes targets with the uniform distribution: ``(1 - epsilon) * targets + epsilon / classes``.

    Source: "Rethinking the Inception Architecture for Computer Vision" (arXiv 1512.00567).

    >>> import torch
    >>> label_smoothing(torch.tensor([[1.0, 0.0]]), 0.5)
    tensor([[0.7500, 0.2500]])
    """
    return (1 - epsilon) * targets + epsilon / targets.shape[-1]
