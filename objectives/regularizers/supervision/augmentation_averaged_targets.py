"""Pseudo-labels averaged over augmentations when the domain looks unfamiliar."""

from __future__ import annotations

from selftune.hyperparameters import Hyperparameter, Integer, Positive, Unit
from selftune.regularizer import Reference, Regularizer, Step, register
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


@register
class AugmentationAveragedTargets(Regularizer):
    """Replaces targets by a mean teacher's predictions, averaged over noisy views where the domain is unfamiliar.

    Unfamiliar is a batch on which the network as it was at the start is less confident than ``threshold``.
    Views are the inputs with Gaussian noise of standard deviation ``noise``. Labels are not used.
    """

    name = "augmentation_averaged_targets"
    family = "supervision"
    kind = "target"
    reference = Reference("Continual Test-Time Domain Adaptation", "2203.13591")
    hyperparameters = (
        Hyperparameter("threshold", Unit(), 0.92, smooth=False, shared=True),
        Hyperparameter("noise", Positive(sweep=(1e-3, 1.0)), 0.1, smooth=False, shared=True),
        Hyperparameter("views", Integer(1, 256), 32, online=False, smooth=False, shared=True),
    )
    needs = frozenset({"inputs", "targets", "teacher_logits", "teacher_parameters", "reference_logits"})
    stage = "correction"

    def targets(self, step: Step) -> None:
        inputs, views = step.inputs.detach(), self.bound["views"].value
        noise = step.randn(views, *inputs.shape).to(inputs.dtype)
        augmented = (inputs + self.value(step, "noise") * noise).flatten(0, 1)
        logits = step.asks.pass_copy(step.teacher_parameters, augmented).logits.unflatten(0, (views, -1))
        anchor = step.reference_logits.softmax(dim=-1)
        step.targets = augmentation_averaged_targets(
            step.teacher_logits, logits, anchor, self.value(step, "threshold")
        )
