"""Trainers that hang: alive, and yet they never come to the end of what they do."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

USUAL = 600.0
"""Seconds that any work may take at least, where nobody says how many."""
_TIMES_LONGEST = 10.0  # how much longer than anything before work may take, where nobody says how long
_TIMES_FIRST = 10.0  # after a start data are loaded and functions compiled
_LOOK_EVERY = 1.0  # seconds: a look at a thousand trials costs more than an order
_MOST = 5.0  # seconds that count between two looks: of a driver that was held up itself, trainers know nothing


@dataclass
class _Work:
    what: str
    since: float


class Hangs:
    """Watches how long trials take for what they do.

    Work is an order, a report of a sweep, a start, a checkpoint. It may take ``after`` seconds, and ten times as
    many as long as the trial has done nothing new since it started: so one that was ended although it was merely
    slow gets through the second time. Without ``after`` the limit is ten times what any work has taken so far, and
    ten minutes at least; as long as none has come to its end, there is no limit.

    Args:
        after: seconds; None to compare with what work took before.
        clock: seconds.

    >>> now = iter([0, 4, 8, 12, 16, 16])
    >>> hangs = Hangs(after=10, clock=lambda: next(now))
    >>> while hangs.is_due():
    ...     why = hangs.look("trial", "order 3", first=False)
    >>> why
    'hangs: order 3 takes longer than 10 seconds'
    """

    def __init__(self, after: float | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        self._after, self._clock = after, clock
        self._last = clock()
        self._time = 0.0
        self._works: dict[str, _Work] = {}
        self._reasons: dict[str, str] = {}
        self._longest: float | None = None

    def is_due(self) -> bool:
        """Whether it is time for a round of looks at the trials; about once a second it is."""
        now = self._clock()
        if now < self._last + _LOOK_EVERY:
            return False
        self._time += min(now - self._last, _MOST)
        self._last = now
        return True

    def look(self, trial: str, what: str | None, first: bool) -> str | None:
        """A trial is at some work, or at none.

        Args:
            trial: its name.
            what: the work, in words that tell it from the next.
            first: whether the trial has done nothing new since it started.

        Returns:
            Why it is to be ended, in words; None if it is not. After that, its work counts anew.
        """
        work = self._works.get(trial)
        if what is None:
            self._works.pop(trial, None)
        elif work is None or work.what != what:
            self._works[trial] = _Work(what, self._time)
            self._reasons.pop(trial, None)
        elif self._time - work.since > (limit := self._limit(first)):
            work.since = self._time
            self._reasons[trial] = f"hangs: {what} takes longer than {limit:.0f} seconds"
            return self._reasons[trial]
        return None

    def reason(self, trial: str) -> str | None:
        """Why a trial that has just failed was ended; None if it was not."""
        return self._reasons.get(trial)

    def done(self, trial: str) -> None:
        """A trial has come to the end of its work."""
        work = self._works.pop(trial, None)
        took = 0.0 if work is None else self._time - work.since  # none: it was done before anybody looked
        self._longest = max(self._longest or 0.0, took)

    def _limit(self, first: bool) -> float:
        times = _TIMES_FIRST if first else 1.0
        if self._after is not None:
            return times * self._after
        return math.inf if self._longest is None else times * max(USUAL, _TIMES_LONGEST * self._longest)
