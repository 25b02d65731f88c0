"""Ending a run of Tune in order because somebody asked: what was begun is finished and saved first."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass
class Ending:
    """What a scheduler has to know to end a run before its time.

    Args:
        asked: whether somebody asked.
        end: ends Tune's run, whose trials are then not over: it can be resumed.
        has_ended: whether that was called.

    >>> ending = Ending(asked=lambda: True, end=lambda: None)
    >>> ending.now()
    >>> ending.has_ended
    True
    """

    asked: Callable[[], bool]
    end: Callable[[], None]
    has_ended: bool = False

    def now(self) -> None:
        """Everything is saved: the run ends."""
        self.has_ended = True
        self.end()
