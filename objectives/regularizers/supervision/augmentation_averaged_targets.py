"""Pseudo-labels averaged over augmentations when the domain looks unfamiliar."""

from __future__ import annotations

from selftune.shapes import Float, Tensor


def augmentation_averaged_targets(
    teacher_logits: Float[Tensor, "batch classes"],
    augmented_logits: Float[Tensor, "views batch classes"],
    anchor_probs: Float[Tensor, "batch classes"],
    threshold: float | Float[Tensor, ""] = 0.92,
) -> Float[Tensor, "batch classes"]:
    """The teacher's predictions, from the mean of its logits over views if the source model is unsure.

    The whole batch switches when the source model's mean confidence is below the threshold. No gradient.

    Args:
        teacher_logits: of the weight-averaged teacher on the plain inputs.
        augmented_logits: of the teacher on augmented inputs.
        anchor_probs: predictions of the frozen source model.
        threshold: in [0, 1].

    Source: "Continual Test-Time Domain Adaptation" (arXiv 2203.13591).

    >>> import torch
    >>> unsure = torch.tensor([[0.6, 0.4]])
    >>> augmentation_averaged_targets(torch.tensor([[9.0, 0.0]]), torch.zeros(2, 1, 2), unsure)
    tensor([[0.5000, 0.5000]])
    """
    confidence = anchor_probs.amax(dim=-1).mean()
    logits = augmented_logits.mean(dim=0).where(confidence < threshold, teacher_logits)
    return logits.detach().softmax(dim=-1)
