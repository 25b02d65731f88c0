"""How a search goes: who draws, who stops, how many, and for how long."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from selftune.errors import SettingError
from selftune.fields import check_fields
from selftune.search.searchers import RandomSearch
from selftune.search.trial_schedulers import NoScheduler


@dataclass(frozen=True, kw_only=True)
class SearchSettings:
    """How a search goes.

    Args:
        searcher: what draws the values of trials; see ``search/searchers.py``.
        scheduler: what stops and copies trials; see ``search/trial_schedulers.py``.
        trials: how many; None for as many as the budget lasts for.
        concurrent: how many at a time, at most; None for as many as fit on the cluster.
        metric, mode: what says which trial is the best.
        steps: training steps of all networks of all trials together; None for no limit.
        seconds: that the trainers of all trials compute together, see ``TrialRecord``; None for no limit.
        report_every: training steps between two reports of a trial.
        seed: of the draws.
        first: values of the first trials, by key; keys that are left out are drawn.

    Raises:
        SettingError: if neither ``trials`` nor a budget is given, or a number is out of range.
    """

    metric: str
    mode: Literal["min", "max"]
    report_every: int
    searcher: Any = field(default_factory=RandomSearch)
    scheduler: Any = field(default_factory=NoScheduler)
    trials: int | None = None
    concurrent: int | None = None
    steps: int | None = None
    seconds: float | None = None
    seed: int = 0
    first: tuple[Mapping[str, Any], ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "first", tuple(self.first))
        check_fields(self)
        for key in ("trials", "concurrent", "steps", "report_every"):
            value = getattr(self, key)
            if value is not None and value < 1:
                raise SettingError(key, f"must be at least 1, got {value}")
        if self.seconds is not None and not 0 < self.seconds < math.inf:
            raise SettingError("seconds", f"must be a positive number, got {self.seconds:g}")
        if self.trials is None and self.steps is None and self.seconds is None:
            raise SettingError("trials", "is missing; say how many trials, or give a budget in steps or seconds")
