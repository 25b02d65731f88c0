"""The best hyper-step so far by a metric, and whether it is worth waiting for a better one."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch

from selftune.methods.method import HyperStep
from selftune.shapes import Float, Tensor
from selftune.storage.state_tree import record

Mode = Literal["min", "max"]


@record
@dataclass
class BestStep:
    """The hyper-step at which a metric was best, of all that were ``seen``; the first of equal ones.

    Attributes:
        metric: ``validation_loss``, or the name of another measure of hyper-steps.
        mode: what is better.
        number, training_step: of the hyper-step; -1 before there is one.
        value: of the metric there.
        hyperparameters: constrained values, with which the network was trained.

    >>> best = BestStep("validation_loss", "min")
    >>> best.hyperparameters.shape
    torch.Size([0])
    """

    metric: str = "validation_loss"
    mode: Mode = "min"
    number: int = -1
    training_step: int = -1
    value: float = math.nan
    hyperparameters: Float[Tensor, "n"] = None  # type: ignore[assignment]
    last: int = -1

    def __post_init__(self) -> None:
        if self.hyperparameters is None:
            self.hyperparameters = torch.empty(0)

    def see(self, step: HyperStep) -> bool:
        """Whether this one is the best so far; one at which the metric was not taken, or is no number, is not."""
        self.last = step.number
        value = step.validation_loss if self.metric == "validation_loss" else step.diagnostics.get(self.metric)
        if value is None or not math.isfinite(value):
            return False
        if self.number >= 0 and not (value < self.value if self.mode == "min" else value > self.value):
            return False
        self.number, self.training_step, self.value = step.number, step.training_step, value
        self.hyperparameters = step.hyperparameters.detach().clone()
        return True

    def waited(self, patience: int | None) -> bool:
        """Whether so many hyper-steps have passed since the best one; never for None."""
        return patience is not None and self.number >= 0 and self.last - self.number >= patience


def stopped_early(best: BestStep) -> str:
    """Why a study did not use up its budget."""
    return (
        f"stopped early: no better {best.metric} than {best.value:.4g} of hyper-step {best.number} was met since"
    )
