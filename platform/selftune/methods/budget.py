"""How long a study goes on."""

from __future__ import annotations

import math
from dataclasses import dataclass

from selftune.errors import SettingError
from selftune.fields import check_fields


@dataclass(frozen=True)
class Budget:
    """How long a study goes on: so many steps, or seconds, or so much work; or less, if nothing gets better.

    Args:
        steps: training steps of every trainer; accepted upper steps where the lower level is solved.
        seconds: trainers' time; of methods that train networks.
        work: lower-level gradients and products of the team; of methods that solve the lower level.
        patience: hyper-steps without a better metric after which a study that trains networks stops early; None
            for never. The metric is that of the study, the validation loss where nothing else is said.

    Raises:
        SettingError: if none or several of the first three are given, or one is out of range.

    >>> Budget(steps=100)
    Budget(steps=100, seconds=None, work=None, patience=None)
    """

    steps: int | None = None
    seconds: float | None = None
    work: int | None = None
    patience: int | None = None

    def __post_init__(self) -> None:
        check_fields(self)
        if sum(value is not None for value in (self.steps, self.seconds, self.work)) != 1:
            raise SettingError("", "give either steps or seconds, or work with a method that counts it")
        if self.steps is not None and self.steps < 1:
            raise SettingError("steps", f"must be at least 1, got {self.steps}")
        if self.work is not None and self.work < 1:
            raise SettingError("work", f"must be at least 1, got {self.work}")
        if self.seconds is not None and not (self.seconds > 0 and math.isfinite(self.seconds)):
            raise SettingError("seconds", f"must be a positive number, got {self.seconds}")
        if self.patience is not None and self.patience < 1:
            raise SettingError("patience", f"must be at least 1, got {self.patience}")
        if self.patience is not None and self.work is not None:
            raise SettingError("patience", "is for methods that train networks; leave it out")

    def check_training(self, warmup_steps: int) -> None:
        """Refuses a budget under which a method that trains networks could tune nothing.

        Raises:
            SettingError: with the key ``work`` or ``warmup_steps``.
        """
        if self.work is not None:
            raise SettingError("work", "is counted where the lower level is solved; give steps or seconds")
        if self.steps is not None and self.steps <= warmup_steps:
            raise SettingError(
                "warmup_steps",
                f"must be below the budget of {self.steps} training steps, or nothing is ever tuned;"
                f" got {warmup_steps}",
            )

    def spent(self, steps: int, seconds: float) -> bool:
        """Whether so many training steps, or so many seconds, use it up."""
        if self.steps is not None:
            return steps >= self.steps
        return self.seconds is not None and seconds >= self.seconds
