"""Where in its stages a run is."""

from __future__ import annotations

import bisect
import itertools
from collections.abc import Sequence

from selftune.lower_level.objective import Stage


class Timetable:
    """When each stage begins and ends.

    Args:
        stages: one after the other; the last one goes on for ever. None is as one.

    >>> from torch import arange
    >>> timetable = Timetable([Stage(arange(4), steps=10), Stage(arange(4), steps=5)])
    >>> timetable.stage(9), timetable.stage(10), timetable.since(12), timetable.end(3), timetable.end(12)
    (0, 1, (1, 2), 10, None)
    """

    def __init__(self, stages: Sequence[Stage] = ()) -> None:
        self._ends = list(itertools.accumulate(stage.steps for stage in stages))

    def stage(self, step: int) -> int:
        """Number of the stage that a step belongs to, from 0."""
        return min(bisect.bisect_right(self._ends, step), max(0, len(self._ends) - 1))

    def since(self, step: int) -> tuple[int, int]:
        """The stage of a step, and the steps of it that came before."""
        stage = self.stage(step)
        return stage, step - (self._ends[stage - 1] if stage else 0)

    def end(self, step: int) -> int | None:
        """The step behind the stage of a step; None where it goes on for ever."""
        stage = self.stage(step)
        return self._ends[stage] if stage + 1 < len(self._ends) else None
