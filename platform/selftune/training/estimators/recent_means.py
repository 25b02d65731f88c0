"""Measures of the parts of a validation batch, as means over as many as make a whole one."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import Any

import torch

from selftune.shapes import Float, Tensor


class RecentMeans:
    """Running means of measures by name, where they are: nothing is read from a device.

    >>> means, whole = RecentMeans(), 100
    >>> means.of({"validation_loss": torch.tensor(1.0)}, 50, whole)
    {'validation_loss': tensor(1.)}
    >>> means.of({"validation_loss": torch.tensor(2.0)}, 50, whole)
    {'validation_loss': tensor(1.5000)}
    >>> means.of({"validation_loss": torch.tensor(4.0)}, 100, whole)
    {'validation_loss': tensor(4.)}
    """

    def __init__(self) -> None:
        self._kept: deque[tuple[int, dict[str, Tensor]]] = deque()

    def of(self, measures: Mapping[str, Float[Tensor, ""]], examples: int, whole: int) -> dict[str, Tensor]:
        """The means of these measures, of so many examples, with the last ones that make a whole batch."""
        self._kept.append((examples, dict(measures)))
        while sum(number for number, _ in self._kept) - self._kept[0][0] >= whole:
            self._kept.popleft()
        if len(self._kept) == 1:
            return dict(measures)
        result = {}
        for name in measures:
            found = [(number, one[name]) for number, one in self._kept if name in one]
            total = sum(number for number, _ in found)
            result[name] = torch.stack([value * (number / total) for number, value in found]).sum()
        return result

    def state_dict(self) -> dict[str, Any]:
        return {"kept": [[number, dict(one)] for number, one in self._kept]}

    def load_state_dict(self, state: Mapping[str, Any], device: torch.device) -> None:
        self._kept = deque(
            (number, {name: value.to(device) for name, value in one.items()}) for number, one in state["kept"]
        )
