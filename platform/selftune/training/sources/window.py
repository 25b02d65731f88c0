"""Batches that were drawn and may be asked for again."""

from __future__ import annotations

from selftune.data.drawn import Drawn


class Window:
    """Batches by step, from the first that may still be asked for to the last that was drawn.

    >>> window = Window()
    >>> window.keep(3, Drawn(None, "third")), window.keep(4, Drawn(None, "fourth"))
    (None, None)
    >>> window.forget(4)
    >>> window.first, window.get(3), window.get(4)
    (4, None, Drawn(index=None, batch='fourth'))
    """

    def __init__(self) -> None:
        self._batches: dict[int, Drawn] = {}

    @property
    def first(self) -> int | None:
        """The first step whose batch is kept; None where none is."""
        return min(self._batches, default=None)

    def get(self, step: int) -> Drawn | None:
        return self._batches.get(step)

    def keep(self, step: int, drawn: Drawn) -> None:
        self._batches[step] = drawn

    def forget(self, before: int) -> None:
        for step in [step for step in self._batches if step < before]:
            del self._batches[step]

    def clear(self) -> None:
        self._batches.clear()
