"""Progressive self-distillation: targets softened by the predictions of the epoch before."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from selftune.objectives.common.own_predictions import own_probs

from selftune.hyperparameters import Hyperparameter, Unit
from selftune.registries.reference import Reference
from selftune.regularization.regularizer import Regularizer, register
from selftune.regularization.step import Step, per_example
from selftune.shapes import Float, Tensor


def progressive_self_distillation(
    targets: Float[Tensor, "batch classes"],
    past_probs: Float[Tensor, "batch classes"],
    progress: float | Float[Tensor, ""],
    final_weight: float | Float[Tensor, "*final_weight"] = 0.8,
) -> Float[Tensor, "batch classes"]:
    """``(1 - alpha) * targets + alpha * past_probs`` with ``alpha = final_weight * progress``.

    Args:
        past_probs: predictions of the epoch before, in the first epoch the targets; no gradient flows to them.
        progress: (epoch + 1) / epochs with epochs counted from 0, in [0, 1].
        final_weight: alpha at the end, in [0, 1].

    Source: "Self-Knowledge Distillation with Progressive Refinement of Targets" (arXiv 2006.12000).

    >>> import torch
    >>> progressive_self_distillation(torch.tensor([[1.0, 0.0]]), torch.tensor([[0.5, 0.5]]), 0.5)
    tensor([[0.8000, 0.2000]])
    """
    alpha = per_example(final_weight * progress, targets)
    refined: Tensor = targets + alpha * (past_probs.detach() - targets)  # exactly the targets where both agree
    return refined


@register
class ProgressiveSelfDistillation(Regularizer):
    """Mixes targets with the network's own predictions of the epoch before, more and more as training goes on.

    The predictions' share is the same throughout an epoch, and ``final_weight`` in the last one. Where examples
    are mixed, their predictions are mixed alike, and taken from a pass on the examples as they were.

    State: tables (examples, classes) of the last and of the running epoch. Only training steps write.
    """

    name = "progressive_self_distillation"
    family = "supervision"
    kind = "target"
    reference = Reference("Self-Knowledge Distillation with Progressive Refinement of Targets", "2006.12000")
    hyperparameters = (Hyperparameter("final_weight", Unit(), 0.8),)
    needs = frozenset(
        {"targets", "logits", "index", "examples", "classes", "epoch", "epochs", "class_probabilities"}
    )
    order = "correction"

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self._epoch = -1
        self._past: Tensor | None = None
        self._current: Tensor | None = None

    def targets(self, step: Step) -> None:
        past, current = self._tables(step)
        if step.epoch != self._epoch and not step.perturbed:
            past.copy_(current)
            self._epoch = step.epoch
        own = len(step.index)
        targets = step.targets[:own]
        rows = self._rows(step, past[step.index])
        weight = self.value(step, "final_weight")
        weight = weight[:own] if weight.ndim else weight
        softened = progressive_self_distillation(targets, rows, (step.epoch + 1) / step.epochs, weight)
        step.targets = torch.cat([softened, step.targets[own:]])
        if not step.perturbed:
            current[step.index] = own_probs(step)

    def _rows(self, step: Step, rows: Float[Tensor, "own classes"]) -> Float[Tensor, "own classes"]:
        """Past predictions, mixed as the inputs are; the targets where there is none."""
        own = len(rows)
        targets = step.mixings[0].targets if step.mixings else step.targets
        known = rows.sum(dim=-1, keepdim=True) > 0
        rows = torch.cat([rows.where(known, targets[:own]), targets[own:]])
        return step.mix_rows(rows)[:own]

    def _tables(self, step: Step) -> tuple[Tensor, Tensor]:
        if self._past is None or self._current is None:
            empty = step.logits.detach().new_zeros(2, step.examples, step.classes)
            self._past, self._current = empty[0], empty[1].clone()
        device = step.inputs.device  # a checkpoint is read on the CPU
        self._past, self._current = self._past.to(device), self._current.to(device)
        return self._past, self._current

    def state_dict(self) -> dict[str, Any]:
        return {"epoch": self._epoch, "past": self._past, "current": self._current}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._epoch, self._past, self._current = state["epoch"], state["past"], state["current"]
