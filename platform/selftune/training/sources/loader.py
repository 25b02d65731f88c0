"""Batches of a ready data loader, or of whatever else can be iterated over."""

from __future__ import annotations

import bisect
from collections.abc import Iterable, Iterator, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch.utils.data import DataLoader, IterableDataset

from selftune.errors import SettingError
from selftune.nested import moved
from selftune.training.seeds import Streams
from selftune.training.sources.batch_source import BatchSource, Drawn
from selftune.training.sources.global_generators import seeded
from selftune.training.sources.window import Window

_OWN = 1 << 62  # behind what an order draws from the same stream


@dataclass(frozen=True)
class _Place:
    """Where a loader stands before a batch: the epoch, the batches of it that came before, its own account."""

    epoch: int
    since: int
    account: Mapping[str, Any] | None


class LoaderSource(BatchSource):
    """Batches of a ``DataLoader`` or another iterable, over and over; which examples they hold, nobody knows.

    Every epoch begins with generators that follow from seed and epoch: the global ones of torch, Python and numpy,
    and those of the loader and of its sampler; ``set_epoch`` of sampler and data set is called where there is one.
    So an epoch can be gone through again. A loader with ``state_dict`` and ``load_state_dict``, such as torchdata's
    ``StatefulDataLoader``, goes on at once where a run stopped; another one passes over the batches of the epoch
    that came before, which takes as long as to load them.

    Args:
        key: what the loader is called where it is given, for messages.
        loader: gives batches; one that can be gone through again, or it ends after its last batch.
        streams, stream: where random numbers come from.
        device: where batches are wanted.

    >>> batches = [torch.tensor([0, 1]), torch.tensor([2, 3])]
    >>> source = LoaderSource("train", batches, Streams(0, 0, torch.device("cpu")), "epoch", torch.device("cpu"))
    >>> [source.at(step).batch.tolist() for step in range(3)]
    [[0, 1], [2, 3], [0, 1]]
    >>> source.epoch(2)
    1
    """

    def __init__(
        self, key: str, loader: Iterable[Any], streams: Streams, stream: str, device: torch.device
    ) -> None:
        super().__init__()
        self.loader = loader
        self.device = device
        self.examples = _length(getattr(loader, "dataset", None))
        self._key = key
        self._streams = streams
        self._stream = stream
        self._has_account = all(callable(getattr(loader, name, None)) for name in ("state_dict", "load_state_dict"))
        # workers draw from generators of their own, which are seeded when they begin
        self._draws_here = getattr(loader, "num_workers", 0) == 0
        self._length = _batches_of(loader)
        self._window = Window()
        self._places: dict[int, _Place] = {}
        self._coming: Iterator[Any] | None = None
        self._next = 0
        self._epoch = 0
        self._since = 0
        self._starts = [0]
        self._member = streams.member
        self._loaded: _Place | None = None

    def at(self, step: int) -> Drawn:
        if self._member != self._streams.member:  # whose epochs are others
            self._member = self._streams.member
            self._window.clear()
            self._go_to(step)
        drawn = self._window.get(step)
        if drawn is not None:
            return drawn
        if step < self._next:
            self._go_to(step)
        while self._next <= step:
            drawn = self._draw()
        assert drawn is not None
        return drawn
