"""Temporal ensembling: running averages of the model's own predictions, one per example."""

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


def temporal_ensembling(
    targets: Float[Tensor, "batch classes"],
    probs: Float[Tensor, "batch classes"],
    beta: float | Float[Tensor, "*beta"] = 0.7,
    eps: float = 1e-4,
) -> Float[Tensor, "batch classes"]:
    """``beta * targets + (1 - beta) * q`` with q the clamped, renormalised predictions; carries no gradient.

    There is no bias correction: rows that start at zero sum to ``1 - beta ** visits``.

    Args:
        targets: the averages so far.
        beta: weight of the past, in [0, 1].
        eps: predictions are clamped to [eps, 1 - eps].

    Source: "Temporal Ensembling for Semi-Supervised Learning" (arXiv 1610.02242), as used in "Early-Learning
    Regularization Prevents Memorization of Noisy Labels" (arXiv 2007.00151).

    >>> import torch
    >>> temporal_ensembling(torch.zeros(1, 2), torch.tensor([[0.75, 0.25]]), beta=0.5)
    tensor([[0.3750, 0.1250]])
    """
    clamped = probs.detach().clamp(eps, 1 - eps)
    normalized = clamped / clamped.sum(dim=-1, keepdim=True)
    beta = per_example(beta, probs)
    return (beta * targets + (1 - beta) * normalized).detach()


@register
class TemporalEnsembling(Regularizer):
    """A teacher for other regularizers: the running average of the network's own predictions, per example.

    It provides ``teacher_logits``, logarithms of the averages, whose softmax sums to one whatever the number of
    visits; an example that was never visited is taught uniform predictions.

    State: a table (examples, classes), zero at the start. Training steps update the rows of their batch before
    penalties read them; response steps read the rows as they are. Where examples are mixed, their rows are mixed
    alike, and the table is written by a pass on the examples as they were.
    """

    name = "temporal_ensembling"
    family = "supervision"
    kind = "target"
    reference = Reference("Temporal Ensembling for Semi-Supervised Learning", "1610.02242")
    hyperparameters = (Hyperparameter("beta", Unit(sweep=(0.5, 0.99)), 0.7, smooth=False, shared=True),)
    needs = frozenset({"logits", "index", "examples", "classes"})
    provides = frozenset({"teacher_logits"})

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self._table: Tensor | None = None

    def targets(self, step: Step) -> None:
        table = self._on_device(step)
        if not step.perturbed:
            averages = temporal_ensembling(table[step.index], own_probs(step), self.value(step, "beta"))
            table[step.index] = averages

    def quantity(self, name: str, step: Step) -> Float[Tensor, "batch classes"]:
        rows = self._on_device(step)[step.index]
        appended = step.logits[len(step.index) :].detach()  # which agree with themselves
        logits = torch.cat([rows.clamp_min(torch.finfo(rows.dtype).tiny).log(), appended])
        return step.mix_rows(logits.softmax(dim=-1)).log() if step.mixings else logits

    def _on_device(self, step: Step) -> Float[Tensor, "examples classes"]:
        if self._table is None:
            self._table = step.logits.new_zeros(step.examples, step.classes).detach()
        self._table = self._table.to(step.inputs.device)  # a checkpoint is read on the CPU
        return self._table

    def state_dict(self) -> dict[str, Any]:
        return {"table": self._table}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._table = state["table"]
