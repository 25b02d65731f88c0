"""How methods are compared: which, over how many seeds, and with which budget."""

from __future__ import annotations

import math
from dataclasses import dataclass

from selftune.errors import SettingError
from selftune.fields import check_fields


@dataclass(frozen=True, kw_only=True)
class ComparisonSettings:
    """How methods are compared.

    Args:
        methods: their names; see ``compared_method``.
        seeds: how often each is run, the study's seed counted upwards.
        steps: training steps of all networks of all trials of one method and one seed.
        seconds: that the trainers of all trials compute together, in the place of steps.
        starts: random start values from which methods that tune online, and single trials of random search, are
            run one by one; 0 for none.
        concurrent: trials at a time, at most; None for as many as fit.

    Raises:
        SettingError: if a number is out of range, or not one of ``steps`` and ``seconds`` is given.
    """

    methods: tuple[str, ...]
    seeds: int = 3
    steps: int | None = None
    seconds: float | None = None
    starts: int = 0
    concurrent: int | None = None

    def __post_init__(self) -> None:
        check_fields(self)
        if not self.methods:
            raise SettingError("methods", "is empty; name at least one method")
        if self.seeds < 1:
            raise SettingError("seeds", f"must be at least 1, got {self.seeds}")
        if self.concurrent is not None and self.concurrent < 1:
            raise SettingError("concurrent", f"must be at least 1, got {self.concurrent}")
        if self.starts < 0 or self.starts == 1:
            raise SettingError("starts", f"must be at least 2, or 0 for none, got {self.starts}")
        if (self.steps is None) == (self.seconds is None):
            raise SettingError("budget", "must be given once, in training steps or in seconds")
        if self.steps is not None and self.steps < 1:
            raise SettingError("budget", f"must be at least 1 training step, got {self.steps}")
        if self.seconds is not None and not 0 < self.seconds < math.inf:
            raise SettingError("budget", f"must be a positive number of seconds, got {self.seconds:g}")
