"""Measures of the parts of a validation batch, as means over as many as make a whole one."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import Any


class RecentMeans:
    """Running means of measures by name.

    >>> means = RecentMeans()
    >>> means.of({"validation_loss": 1.0}, 2)
    {'validation_loss': 1.0}
    >>> means.of({"validation_loss": 2.0}, 2)
    {'validation_loss': 1.5}
    >>> means.of({"validation_loss": 4.0}, 1)
    {'validation_loss': 4.0}
    """

    def __init__(self) -> None:
        self._kept: deque[dict[str, float]] = deque()

    def of(self, measures: Mapping[str, float], parts: int) -> dict[str, float]:
        """The means of these measures over the last ``parts`` times, and fewer at the beginning."""
        self._kept.append(dict(measures))
        while len(self._kept) > parts:
            self._kept.popleft()
        if parts == 1:
            return dict(measures)
        found = {name: [one[name] for one in self._kept if name in one] for name in measures}
        return {name: sum(values) / len(values) for name, values in found.items()}

    def state_dict(self) -> dict[str, Any]:
        return {"kept": [dict(one) for one in self._kept]}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._kept = deque(dict(one) for one in state["kept"])
