"""How long a study goes on."""

from __future__ import annotations

import math
from dataclasses import dataclass

from selftune.errors import SettingError
from selftune.fields import check_fields


@dataclass(frozen=True)
class Budget:
    """How long a study goes on: one of its three fields.

    Args:
        steps: training steps of every trainer; accepted upper steps where the lower level is solved.
        seconds: trainers' time; of methods that train networks.
        work: lower-level gradients and products of the team; of methods that solve the lower level.

    Raises:
        SettingError: if none or several are given, or one is out of range.

    >>> Budget(steps=100)
    Budget(steps=100, seconds=None, work=None)
    """

    steps: int | None = None
    seconds: float | None = None
    work: int | None = None

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
