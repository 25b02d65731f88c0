"""The data of one trainer: what it trains on, and what it is judged on."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import torch

from selftune.data.drawn import Drawn
from selftune.data.kinds import is_dataset, is_held
from selftune.data.nested import first_of, moved, size_of
from selftune.lower_level.objective import NetworkObjective, Stage
from selftune.shapes import Int, Tensor
from selftune.training.seeds import Streams
from selftune.training.sources.batch_source import BatchSource
from selftune.training.sources.dataset import DatasetSource
from selftune.training.sources.loader import LoaderSource
from selftune.training.sources.memory import MemorySource


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
        """The first examples of the validation data: so many at most."""

    @property
    def validation_examples(self) -> int:
        """Number of validation examples.

        Raises:
            SettingError: where they cannot be taken one by one.
        """
        if self.validation.examples is None:
            self.validation.rows(torch.arange(0))  # says so
        return self.validation.examples or 0

    def validation_rows(self, index: Int[Tensor, "batch"]) -> Any:
        """The validation examples at these positions.

        Raises:
            SettingError: where they cannot be taken one by one.
        """
        return self.validation.rows(index)

    def state_dict(self) -> dict[str, Any]:
        return {"train": self.train.state_dict(), "validation": self.validation.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.train.load_state_dict(state["train"])
        self.validation.load_state_dict(state["validation"])


class ObjectiveSources(Sources):
    """An objective's data: tensors on the device, data sets and loaders as they are.

    Args:
        objective: whose splits.
        streams: where the order of examples comes from.
        device: where batches are wanted.
    """

    def __init__(self, objective: NetworkObjective, streams: Streams, device: torch.device) -> None:
        self._objective = objective
        self._streams = streams
        self._device = device
        self.train = self._source(
            "train", objective.optimization.batch_size, "epoch", objective.stages(), objective.balanced_by
        )
        self.validation = self._source("validation", objective.validation_batch_size, "validation")
        self._sources = {"train": self.train, "validation": self.validation}
        self._sampled: Drawn | None = None

    def whole(self, split: str, size: int) -> Iterator[Any]:
        if split not in self._sources:
            self._sources[split] = self._source(split, None, "validation")
        return self._sources[split].once(size)

    def sample(self, size: int) -> Drawn:
        held = isinstance(self.validation, MemorySource)
        size = size if held else min(size, self._objective.evaluation_batch_size)
        if self._sampled is None:
            batch = first_of(next(self.validation.once(size)), size)
            drawn = Drawn(torch.arange(size_of(batch), device=self._device), batch)
            if held:  # at no cost
                return drawn
            self._sampled = drawn
        return self._sampled

    def _source(
        self,
        split: str,
        size: int | None,
        stream: str,
        stages: Sequence[Stage] = (),
        balanced_by: str | None = None,
    ) -> BatchSource:
        objective, data = self._objective, self._objective.data(split)
        if is_held(data):
            return MemorySource(moved(data, self._device), size, self._streams, stream, stages, balanced_by)
        arrange, loading = partial(objective.arrange, split), objective.loading
        if not is_dataset(data):
            return LoaderSource(split, data, self._streams, stream, self._device, arrange)
        return DatasetSource(
            data,
            size or min(len(data), objective.optimization.batch_size),
            self._streams,
            stream,
            self._device,
            stages,
            loading.collate,
            loading.workers,
            arrange,
            loading.bytes_on(self._device),
        )


def sources_of(objective: NetworkObjective, streams: Streams, device: torch.device) -> Sources:
    """The data of an objective, on a device."""
    return ObjectiveSources(objective, streams, device)
