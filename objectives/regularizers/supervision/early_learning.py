"""Early-learning regularization against noisy labels."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from selftune.objectives.common.own_predictions import own_probs

from selftune.hyperparameters import Hyperparameter, Positive, Unit
from selftune.registries.reference import Reference
from selftune.regularization.regularizer import Regularizer, register
from selftune.regularization.step import Step
from selftune.shapes import Float, Tensor

EPS = 1e-4


def early_learning(
    probs: Float[Tensor, "batch classes"], ema_probs: Float[Tensor, "batch classes"], eps: float = EPS
) -> Float[Tensor, "batch"]:
    """``log(1 - <t, p>)`` with p the clamped predictions and t their running average (no gradient to t).

    It is never positive; minimising it keeps predictions close to what was learned early. A table of zeros
    gives zero.

    Source: "Early-Learning Regularization Prevents Memorization of Noisy Labels" (arXiv 2007.00151).
    """
    agreement = (probs.clamp(eps, 1 - eps) * ema_probs.detach()).sum(dim=-1)
    return torch.log1p(-agreement)


@register
class EarlyLearning(Regularizer):
    """Keeps predictions close to a running average of early predictions, kept per training example.

    State: a table (examples, classes), zero at the start. Elementary steps update the rows of their batch
    before the penalty reads them; response steps read the rows as they are. Where examples are mixed (ELR+), their
    rows are mixed alike, and the table is written by a pass on the examples as they were.
    """

    name = "early_learning"
    family = "supervision"
    kind = "penalty"
    reference = Reference("Early-Learning Regularization Prevents Memorization of Noisy Labels", "2007.00151")
    hyperparameters = (
        Hyperparameter("strength", Positive(sweep=(0.1, 10.0)), 3.0),
        Hyperparameter("beta", Unit(sweep=(0.5, 0.99)), 0.7, smooth=False, shared=True),
    )
    needs = frozenset({"probs", "index", "examples", "classes"})

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self._table: Tensor | None = None

    def penalty(self, step: Step) -> Float[Tensor, "batch"]:
        probs = step.probs[: len(step.index)]  # appended examples have no rows
        if self._table is None:
            self._table = torch.zeros(step.examples, step.classes, dtype=probs.dtype, device=probs.device)
        self._table = self._table.to(probs.device)  # a checkpoint is read on the CPU
        if not step.perturbed:
            clamped = own_probs(step).clamp(EPS, 1 - EPS)
            normalized = clamped / clamped.sum(dim=-1, keepdim=True)
            beta = self.value(step, "beta")
            self._table[step.index] = beta * self._table[step.index] + (1 - beta) * normalized
        rows = self._table[step.index]
        if step.mixings:
            appended = rows.new_zeros(len(step.inputs) - len(rows), rows.shape[1])
            rows = step.mix_rows(torch.cat([rows, appended]))[: len(rows)]
        return early_learning(probs, rows)

    def state_dict(self) -> dict[str, Any]:
        return {"table": self._table}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._table = state["table"]
