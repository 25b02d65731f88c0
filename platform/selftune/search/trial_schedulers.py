"""Schedulers of trials, Ray Tune's own: what stops, pauses and copies trials while they train.

Steps are training steps of a trial.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from selftune.errors import SettingError
from selftune.fields import check_fields


@dataclass(frozen=True)
class NoScheduler:
    """Every trial is trained to its end."""


@dataclass(frozen=True)
class AshaSettings:
    """Asynchronous successive halving: of the trials that get to a rung, one in ``reduction_factor`` goes on.

    Args:
        grace_steps: the first rung; None for the trial's steps / reduction_factor^2.
        reduction_factor: between rungs.
        brackets: with different first rungs.
    """

    grace_steps: int | None = None
    reduction_factor: int = 4
    brackets: int = 1

    def __post_init__(self) -> None:
        check_fields(self)
        _check_lowest(self, grace_steps=1, reduction_factor=2, brackets=1)


@dataclass(frozen=True)
class HyperbandSettings:
    """HyperBand: successive halving in brackets, whose trials wait for each other at rungs."""

    reduction_factor: int = 3

    def __post_init__(self) -> None:
        check_fields(self)
        _check_lowest(self, reduction_factor=2)


@dataclass(frozen=True)
class MedianSettings:
    """Stops a trial whose best value is worse than the median of the others' running means at its step.

    Args:
        grace_steps: before which none is stopped; None for a tenth of the trial's steps.
        trials: that must have got as far.
    """

    grace_steps: int | None = None
    trials: int = 3

    def __post_init__(self) -> None:
        check_fields(self)
        _check_lowest(self, grace_steps=1, trials=1)


@dataclass(frozen=True)
class PopulationSettings:
    """What population-based training and its bandit variant have in common.

    Args:
        interval_steps: training steps between two looks; None for a tenth of the trial's steps.
        quantile: share of trials that copy, and share of those that are copied, at most 0.5.
    """

    interval_steps: int | None = None
    quantile: float = 0.25

    def __post_init__(self) -> None:
        check_fields(self)
        _check_lowest(self, interval_steps=1)
        if not 0 < self.quantile <= 0.5:
            raise SettingError("quantile", f"must be above 0 and at most 0.5, got {self.quantile:g}")


@dataclass(frozen=True)
class PbtSettings(PopulationSettings):
    """Population-based training: the worst trials go on from copies of the best, with changed values.

    Args:
        resample: probability with which a value is drawn anew instead of being changed by a fifth.
    """

    resample: float = 0.25

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.resample <= 1:
            raise SettingError("resample", f"must be in [0, 1], got {self.resample:g}")


@dataclass(frozen=True)
class Pb2Settings(PopulationSettings):
    """Population-based bandits: as population-based training, new values by a Gaussian process."""


TRIAL_SCHEDULERS: dict[str, type[Any]] = {
    "none": NoScheduler,
    "asha": AshaSettings,
    "hyperband": HyperbandSettings,
    "median": MedianSettings,
    "pbt": PbtSettings,
    "pb2": Pb2Settings,
}
"""Settings of schedulers of trials, by the name in a study file."""


def _check_lowest(settings: object, **lowest: int) -> None:
    for key, low in lowest.items():
        value = getattr(settings, key)
        if value is not None and value < low:
            raise SettingError(key, f"must be at least {low}, got {value}")
