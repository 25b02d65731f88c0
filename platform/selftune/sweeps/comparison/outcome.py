"""What came of one cell of a comparison: the network that its method hands over, and how it got there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import numpy as np


@dataclass(frozen=True)
class Outcome:
    """What came of one cell.

    Attributes:
        winner: number of the trial whose best network is the best; None if no trial has one.
        values: its values of the swept keys.
        measures: of its best network, over whole splits, by name.
        spent, computed, best: training steps of all networks of all trials, seconds that their trainers computed,
            and the best value of the metric so far, at each of the moments when it became better.
        steps: training steps of all networks of all trials in all.
        seconds: that all trainers computed in all.
        clock: seconds from the search's begin to its end, over all of its runs.
        trials: how many ended how, by status.
        by_start: measures of the best network of each trial, where trials are looked at one by one.
    """

    winner: int | None = None
    values: Mapping[str, Any] = field(default_factory=dict)
    measures: Mapping[str, float] = field(default_factory=dict)
    spent: Sequence[int] = ()
    computed: Sequence[float] = ()
    best: Sequence[float] = ()
    steps: int = 0
    seconds: float = 0.0
    clock: float = 0.0
    trials: Mapping[str, int] = field(default_factory=dict)
    by_start: Sequence[Mapping[str, float]] = ()

    def best_at(self, budget: float, axis: Literal["spent", "computed"]) -> float | None:
        """The best value of the metric within a budget; None if there was none yet.

        >>> outcome = Outcome(spent=(100, 300), computed=(1.0, 3.0), best=(0.5, 0.4))
        >>> outcome.best_at(50, "spent"), outcome.best_at(299, "spent"), outcome.best_at(9.0, "computed")
        (None, 0.5, 0.4)
        """
        at = int(np.searchsorted(np.asarray(getattr(self, axis)), budget, side="right"))
        return self.best[at - 1] if at else None

    def to_mapping(self) -> dict[str, Any]:
        """As plain values, for a JSON file."""
        return asdict(self)
