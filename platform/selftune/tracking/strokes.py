"""Many lines or points of few styles: what looks alike is drawn at once, however many trials there are."""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from typing import Any

import numpy as np


class Strokes:
    """Lines gathered by style, in the order of the styles' first lines.

    A thousand lines drawn one by one take a thousand times what one takes, in time and in the file.

    >>> strokes = Strokes()
    >>> strokes.add("blue", [0, 1], [5, 6])
    >>> strokes.add("blue", [0, 1], [7, 8])
    >>> [(style, y.tolist()) for style, (x, y) in strokes]
    [('blue', [5.0, 6.0, nan, 7.0, 8.0])]
    """

    def __init__(self) -> None:
        self._lines: dict[Hashable, list[Any]] = {}

    def add(self, style: Hashable, x: Any, y: Any) -> None:
        """A line; one of length 0 is passed over."""
        if len(x):
            self._lines.setdefault(style, []).append(np.array([x, y], dtype=np.float64))

    def __iter__(self) -> Iterator[tuple[Any, Any]]:
        """Styles, each with the x and the y of its lines; nan parts one line from the next."""
        gap = np.full((2, 1), np.nan)
        for style, lines in self._lines.items():
            parted = [part for line in lines for part in (gap, line)]
            yield style, np.concatenate(parted[1:], axis=1)
