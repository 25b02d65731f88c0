"""Pseudo-labels averaged over augmentations when the domain looks unfamiliar."""

from __future__ import annotations

import torch

from selftune.hyperparameters import Choice, Hyperparameter, Integer, Positive, Unit
from selftune.lower_level.objective import NetworkObjective
from selftune.registries.reference import Reference
from selftune.regularization.regularizer import Regularizer, register
from selftune.regularization.step import Step
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
    Views are the inputs with Gaussian noise of standard deviation ``noise``. Labels are not used. Normalisation
    layers of teacher and source use the statistics of what they see, as in the authors' code; ``statistics:
    running`` takes running ones.
    """

    name = "augmentation_averaged_targets"
    family = "supervision"
    kind = "target"
    reference = Reference("Continual Test-Time Domain Adaptation", "2203.13591")
    hyperparameters = (
        Hyperparameter("threshold", Unit(sweep=(0.5, 1.0)), 0.92, smooth=False, shared=True),
        Hyperparameter("noise", Positive(sweep=(1e-3, 1.0)), 0.1, smooth=False, shared=True),
        Hyperparameter("views", Integer(1, 256, sweep=(4, 64)), 32, online=False, smooth=False, shared=True),
        Hyperparameter("statistics", Choice(("batch", "running")), "batch", online=False, smooth=False),
    )
    needs = frozenset(
        {"inputs", "targets", "teacher_parameters", "initial_parameters", "real_inputs", "class_probabilities"}
    )
    order = "correction"

    def bind(self, objective: NetworkObjective, provided: frozenset[str] | None = None) -> None:
        super().bind(objective, provided)
        # without such layers, one pass of all views gives the same
        self._of_batch = self.bound["statistics"].value == "batch" and "batch_norm" in objective.provides

    def targets(self, step: Step) -> None:
        inputs, teacher, of_batch = step.inputs.detach(), step.teacher_parameters, self._of_batch
        noise = step.randn(self.bound["views"].value, *inputs.shape).to(inputs.dtype)
        views = inputs + self.value(step, "noise") * noise
        if of_batch:  # every view has statistics of its own
            logits = torch.stack([step.asks.pass_copy(step, teacher, view, of_batch).logits for view in views])
        else:
            logits = step.asks.pass_copy(step, teacher, views.flatten(0, 1)).logits.unflatten(0, views.shape[:2])
        plain = step.asks.pass_copy(step, teacher, inputs, of_batch).logits
        anchor = step.asks.pass_copy(step, step.initial_parameters, inputs, of_batch).logits.softmax(dim=-1)
        step.targets = augmentation_averaged_targets(plain, logits, anchor, self.value(step, "threshold"))
