"""How fast a run goes: training steps and hyper-steps in the last minute."""

from __future__ import annotations

from collections import deque

WINDOW = 60.0
"""Seconds over which a pace is taken."""


class Pace:
    """Rates of counts that only grow, over the last minute.

    >>> pace = Pace()
    >>> pace.at(0.0, 100, 5)
    >>> pace.at(30.0, 400, 8)
    >>> pace.rates
    (10.0, 0.1)
    """

    def __init__(self) -> None:
        self._seen: deque[tuple[float, int, int]] = deque()

    def at(self, clock: float, *counts: int) -> None:
        """Notes the counts at a time, in seconds."""
        self._seen.append((clock, *counts))  # type: ignore[arg-type]
        while len(self._seen) > 2 and self._seen[1][0] <= clock - WINDOW:
            self._seen.popleft()

    @property
    def rates(self) -> tuple[float, ...] | None:
        """Each count's growth per second; None before a second has passed."""
        if not self._seen or self._seen[-1][0] - self._seen[0][0] < 1.0:
            return None
        (began, *before), (now, *after) = self._seen[0], self._seen[-1]
        return tuple((later - earlier) / (now - began) for earlier, later in zip(before, after, strict=True))
