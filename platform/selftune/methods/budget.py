"""How long a study trains."""

from __future__ import annotations

import math
from dataclasses import dataclass

from selftune.errors import SettingError


@dataclass(frozen=True)
class Budget:
    """How long a study trains: training steps of every trainer, or seconds of trainers' time.

    >>> Budget(steps=100)
    Budget(steps=100, seconds=None)
    """

    steps: int | None = None
    seconds: float | None = None

    def __post_init__(self) -> None:
        if (self.steps is None) == (self.seconds is None):
            raise SettingError("", "give either steps or seconds")
        if self.steps is not None and self.steps < 1:
            raise SettingError("steps", f"must be at least 1, got {self.steps}")
        if self.seconds is not None and not (self.seconds > 0 and math.isfinite(self.seconds)):
            raise SettingError("seconds", f"must be a positive number, got {self.seconds}")
