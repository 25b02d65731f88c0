"""The best weight of the ground truth in the next round of self-distillation."""

from __future__ import annotations

from selftune.registries.diagnostics import diagnostic
from selftune.registries.reference import Reference
from selftune.shapes import Float, Tensor


@diagnostic(
    family="supervision",
    reference=Reference(
        "Even your Teacher Needs Guidance: Ground-Truth Targets Dampen Regularization Imposed by"
        " Self-Distillation",
        "2102.13088",
    ),
)
def optimal_distillation_weight(
    targets: Float[Tensor, "*shape"],
    label_predictions: Float[Tensor, "*shape"],
    teacher_predictions: Float[Tensor, "*shape"],
) -> Float[Tensor, ""]:
    """The alpha in [0, 1] that minimises ``||targets - alpha * labels - (1 - alpha) * teacher||^2``.

    For models linear in their targets, such as kernel ridge regression, it is the exact best weight; for deep
    networks an approximation. Where both models agree every weight is best and the result is 1.

    Args:
        targets: of validation data.
        label_predictions: of the model fitted to the labels alone.
        teacher_predictions: of the model fitted to the teacher's predictions alone; no gradient flows to them.

    Source: follows from the linearity shown in "Even your Teacher Needs Guidance: Ground-Truth Targets Dampen
    Regularization Imposed by Self-Distillation" (arXiv 2102.13088).

    >>> import torch
    >>> optimal_distillation_weight(torch.tensor([1.0]), torch.tensor([2.0]), torch.tensor([0.0]))
    tensor(0.5000)
    """
    teacher = teacher_predictions.detach()
    difference = label_predictions - teacher
    squared = difference.square().sum()
    weight = ((targets - teacher) * difference).sum() / squared.where(squared > 0, squared + 1)
    return weight.clamp(0, 1).where(squared > 0, squared + 1)
