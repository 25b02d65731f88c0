"""Settings of the inexact line search: accuracies, steps, and what is tested before a step."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from selftune.errors import SettingError
from selftune.fields import check_fields
from selftune.methods.box import Limits, check_limits
from selftune.methods.synchronization import WITHOUT_TEAM_MEAN


@dataclass(frozen=True)
class InexactLineSearchSettings:
    """Settings of ``InexactLineSearch``; symbols are those of MAID (arXiv 2308.10098).

    Args:
        error: first accuracy asked of the lower level, a distance to its minimiser (epsilon).
        residual: first accuracy asked of the linear system (delta), never looser than a tenth of its right side.
        step: first step size (beta); None takes the one that moves the hyperparameters by about 1.
        step_shrink, step_growth: factors after a rejected and an accepted step (rho, rho bar).
        accuracy_shrink, accuracy_growth: factors of both accuracies after a failed test or search, and after an
            accepted step (nu, nu bar).
        descent: the hypergradient is accurate enough when its error is at most ``1 - descent`` of its norm (eta).
        decrease: share of ``step * norm^2`` by which an accepted step provably lowers the upper level (lambda).
        backtracks: candidates of the first search at a point; one more after each failed search.
        descent_test: whether the error bound is tested at all; without it only the decrease is certified.
        memory: changes of the hypergradient behind a quasi-Newton direction; 0 goes along the hypergradient. On a
            logarithmic scale no coordinate moves against the hypergradient, or further than along it.
        barzilai_borwein: whether a search starts at the step that the last two hypergradients suggest.
        deferred_test: whether the direction test, which asks for far more accuracy than a step, waits until the
            norm is small: until a stop as stationary is to be certified. Every accepted step proves its decrease
            either way.
        share: part of the decrease expected of a step that may be hidden by the lower level's error.
        early_acceptance: whether a solve ends as soon as its candidate is proven to lower the upper level enough.
        early_rejection: whether a solve ends as soon as its candidate can no longer be accepted.
        bound: largest unconstrained value in size; None limits a coordinate only where its domain's scale becomes
            flat: a logarithm 30 beyond its start, a real number nowhere.
        limits: of values, by the name of a hyperparameter with or without its part: (low, high), None for no limit
            on that side. They go before the bound.
        tolerance: stops when the hypergradient's norm plus its error is at most this.
        smallest_error: stops when an accuracy below this would be needed: rounding forbids it.
        speculate: whether idle trainers of a team try the next candidates of a search at the same time: as many as
            the last searches needed, so that none is solved in vain where first candidates are accepted.
        checkpoint_every: accepted steps from one checkpoint to the next.
    """

    REFUSED: ClassVar[Mapping[str, str]] = WITHOUT_TEAM_MEAN

    error: float = 0.1
    residual: float = 0.1
    step: float | None = None
    step_shrink: float = 0.5
    step_growth: float = 1.5
    accuracy_shrink: float = 0.5
    accuracy_growth: float = 1.05
    descent: float = 0.1
    decrease: float = 1e-4
    backtracks: int = 4
    descent_test: bool = True
    barzilai_borwein: bool = True
    memory: int = 10
    deferred_test: bool = True
    share: float = 0.1
    early_acceptance: bool = True
    early_rejection: bool = True
    bound: float | None = None
    limits: Limits | None = None
    tolerance: float = 1e-6
    smallest_error: float = 1e-13
    speculate: bool = True
    checkpoint_every: int = 10

    def __post_init__(self) -> None:
        check_fields(self)
        check_limits(self.limits)
        for key in ("error", "residual", "bound", "tolerance", "smallest_error"):
            value = getattr(self, key)
            if value is None and key == "bound":
                continue
            if not (value > 0 and math.isfinite(value)):
                raise SettingError(key, f"must be a positive number, got {value}")
        if self.step is not None and not (self.step > 0 and math.isfinite(self.step)):
            raise SettingError("step", f"must be a positive number, got {self.step}")
        for key in ("step_shrink", "accuracy_shrink"):
            if not 0 < getattr(self, key) < 1:
                raise SettingError(key, f"must lie between 0 and 1, got {getattr(self, key)}")
        for key in ("step_growth", "accuracy_growth"):
            if not getattr(self, key) >= 1:
                raise SettingError(key, f"must be at least 1, got {getattr(self, key)}")
        if not 0 < self.decrease < self.descent < 1:
            raise SettingError(
                "descent", f"needs 0 < decrease < descent < 1, got {self.decrease} and {self.descent}"
            )
        if not 0 < self.share < 0.5:
            raise SettingError("share", f"must lie between 0 and 0.5, got {self.share}")
        if self.memory < 0:
            raise SettingError("memory", f"must be at least 0, got {self.memory}")
        for key in ("backtracks", "checkpoint_every"):
            if getattr(self, key) < 1:
                raise SettingError(key, f"must be at least 1, got {getattr(self, key)}")
