"""How long a process has computed, however busy the machine is with other things."""

from __future__ import annotations

import time


class Stopwatch:
    """Counts the seconds of computing between two looks.

    On a CPU these are seconds of the processor, all threads of this process together; those of a GPU count by the
    clock, because the processor waits for it.

    Args:
        device: a torch device on which the process computes, such as ``cpu`` or ``cuda``.

    >>> watch = Stopwatch("cpu")
    >>> sum(range(10_000)), watch.taken() > 0
    (49995000, True)
    """

    def __init__(self, device: str) -> None:
        self._now = time.process_time if device == "cpu" else time.perf_counter
        self._last = self._now()

    def taken(self) -> float:
        """The seconds since this was asked last, or since the stopwatch was made."""
        before, self._last = self._last, self._now()
        return self._last - before
