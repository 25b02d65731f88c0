"""The data of one trainer: what it trains on, and what it is judged on."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Any

import torch

from selftune.drawn import Drawn
from selftune.errors import SettingError
from selftune.nested import cut, first_of, moved, rows_of, size_of
from selftune.objective import NetworkObjective
from selftune.shapes import Int, Tensor
from selftune.training.seeds import Streams
from selftune.training.sources.batch_source import BatchSource
from selftune.training.sources.memory import MemorySource

_NOT_BY_POSITION = (
    "must be tensors in memory for this method, which draws validation examples by their position; give tensors,"
    " or use self_tuning"
)


class Sources(ABC):
    """Where batches come from.

    Attributes:
        train: a batch per training step.
        validation: a batch per hyper-step.
    """

    train: BatchSource
    validation: BatchSource

    @abstractmethod
    def whole(self, split: str, size: int) -> Iterator[Any]:
        """A whole split in its own order, in batches of ``size`` where they are cut here."""

    @abstractmethod
    def sample(self, size: int) -> Drawn:
        """The first examples of the validation data."""

    @property
    def validation_examples(self) -> int:
        """Number of validation examples.

        Raises:
            SettingError: where they cannot be taken one by one.
        """
        raise SettingError("validation", _NOT_BY_POSITION)

    def validation_rows(self, index: Int[Tensor, "batch"]) -> Any:
        """The validation examples at these positions.

        Raises:
            SettingError: where they cannot be taken one by one.
        """
        raise SettingError("validation", _NOT_BY_POSITION)


class MemorySources(Sources):
    """An objective's splits, all of them on the device.

    Args:
        objective: whose splits.
        streams: where the order of examples comes from.
        device: where they are put.
    """

    def __init__(self, objective: NetworkObjective, streams: Streams, device: torch.device) -> None:
        self._device = device
        self._splits = {name: moved(split, device) for name, split in objective.splits().items()}
        self.train = MemorySource(
            self._splits["train"],
            objective.optimization.batch_size,
            streams,
            "epoch",
            objective.stages(),
            objective.balanced_by,
        )
        self.validation = MemorySource(
            self._splits["validation"], objective.validation_batch_size, streams, "validation"
        )

    def whole(self, split: str, size: int) -> Iterator[Any]:
        data = self._splits[split]
        for start in range(0, size_of(data), size):
            yield cut(data, start, start + size)

    def sample(self, size: int) -> Drawn:
        batch = first_of(self._splits["validation"], size)
        return Drawn(torch.arange(size_of(batch), device=self._device), batch)

    @property
    def validation_examples(self) -> int:
        return size_of(self._splits["validation"])

    def validation_rows(self, index: Int[Tensor, "batch"]) -> Any:
        return rows_of(self._splits["validation"], index)


def sources_of(objective: NetworkObjective, streams: Streams, device: torch.device) -> Sources:
    """The data of an objective, on a device."""
    return MemorySources(objective, streams, device)
