"""Measures of the parts of a validation batch, as means over as many as make a whole one."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import Any


class RecentMeans:
    """Running means of measures by name.

    >>> means = RecentMeans()
    >>> means.of({"validation_loss": 1.0}, 50, 100)
    {'validation_loss': 1.0}
    >>> means.of({"validation_loss": 2.0}, 50, 100)
    {'validation_loss': 1.5}
    >>> means.of({"validation_loss": 4.0}, 100, 100)
    {'validation_loss': 4.0}
    """

    def __init__(self) -> None:
        self._kept: deque[tuple[int, dict[str, float]]] = deque()

    def of(self, measures: Mapping[str, float], examples: int, whole: int) -> dict[str, float]:
        """The means of these measures, of so many examples, with the last ones that make a whole batch."""
        self._kept.append((examples, dict(measures)))
        while sum(number for number, _ in self._kept) - self._kept[0][0] >= whole:
            self._kept.popleft()
        if len(self._kept) == 1:
            return dict(measures)
        found = {name: [(n, one[name]) for n, one in self._kept if name in one] for name in measures}
        return {name: sum(n * x for n, x in all_) / sum(n for n, _ in all_) for name, all_ in found.items()}

    def state_dict(self) -> dict[str, Any]:
        return {"kept": [(number, dict(one)) for number, one in self._kept]}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._kept = deque((number, dict(one)) for number, one in state["kept"])
