"""Settings of the line search for networks: how arms are trained, which steps are tried, how a step is tested."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from selftune.errors import SettingError
from selftune.fields import check_fields
from selftune.methods.paired_test import SMALLEST_SAMPLE
from selftune.methods.synchronization import WITHOUT_TEAM_MEAN


@dataclass(frozen=True)
class NetworkLineSearchSettings:
    """Settings of ``NetworkLineSearch``.

    Args:
        warmup_steps: training steps before the hyperparameters move.
        train_steps: training steps of every arm.
        proximal: whether arms are held to the weights that they start from, by the gamma of the last outer step.
        smallest_curvature: mu_0, what the proximal term adds beyond the negative curvature met; None takes a
            hundredth of the largest Ritz value.
        lanczos_steps, system_steps: Hessian-vector products for the Ritz values, and for the linear system.
        step: first step size; None takes the one that moves hyperparameters by about 0.5.
        step_shrink, step_growth: factors after a rejected and an accepted step.
        smallest_move: a search never starts with a step that moves hyperparameters by less than this in the mean
            square: smaller effects drown in the noise of the test. On a logarithmic scale 0.05 is 5 percent.
        backtracks: candidates of a search.
        decrease: share of ``step * norm^2`` by which a candidate must lower the validation loss (lambda).
        alpha: probability that the run ever accepts a candidate which lowers the expected validation loss by less.
        validation_samples: examples that judge the arms, at least 30; None for half of the validation split. The
            hypergradient sees others only.
        bound: largest unconstrained value in size.
        checkpoint_every: outer steps between two in which every order is followed by a checkpoint.

    Raises:
        SettingError: if one is out of its range.
    """

    REFUSED: ClassVar[Mapping[str, str]] = WITHOUT_TEAM_MEAN

    warmup_steps: int = 200
    train_steps: int = 50
    proximal: bool = False
    smallest_curvature: float | None = None
    lanczos_steps: int = 20
    system_steps: int = 20
    step: float | None = None
    step_shrink: float = 0.5
    step_growth: float = 1.5
    smallest_move: float = 0.05
    backtracks: int = 3
    decrease: float = 1e-4
    alpha: float = 0.2
    validation_samples: int | None = None
    bound: float = 30.0
    checkpoint_every: int = 1

    def __post_init__(self) -> None:
        check_fields(self)
        for key, low in (
            ("warmup_steps", 0),
            ("train_steps", 1),
            ("lanczos_steps", 1),
            ("system_steps", 1),
            ("backtracks", 1),
            ("validation_samples", SMALLEST_SAMPLE),
            ("checkpoint_every", 1),
        ):
            value = getattr(self, key)
            if value is not None and value < low:
                raise SettingError(key, f"must be at least {low}, got {value}")
        for key in ("smallest_curvature", "step", "smallest_move", "bound"):
            value = getattr(self, key)
            if value is not None and not (value > 0 and math.isfinite(value)):
                raise SettingError(key, f"must be a positive number, got {value}")
        for key in ("step_shrink", "decrease", "alpha"):
            if not 0 < getattr(self, key) < 1:
                raise SettingError(key, f"must lie between 0 and 1, got {getattr(self, key)}")
        if not (self.step_growth >= 1 and math.isfinite(self.step_growth)):
            raise SettingError("step_growth", f"must be a number of at least 1, got {self.step_growth}")

    def mistake_of(self, judges: int) -> SettingError | None:
        """What is wrong if so many validation examples judge the arms."""
        needed = self.validation_samples or SMALLEST_SAMPLE
        if judges >= needed:
            return None
        return SettingError(
            "validation_samples",
            f"the validation split lets {judges} examples judge and keeps the rest for the hypergradient, but"
            f" {needed} must judge: make it larger, or set this to {SMALLEST_SAMPLE} or more",
        )
