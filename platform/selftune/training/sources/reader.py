"""Where one is in a data loader: it can be put to any place, and gives the batch that follows."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch.utils.data import RandomSampler, SubsetRandomSampler

from selftune.data.global_generators import seeded
from selftune.data.released import Released
from selftune.errors import SettingError
from selftune.training.seeds import Streams

_OWN = 1 << 62  # behind what an order draws from the same stream
END = object()
"""What is read behind the last batch of an epoch."""


@dataclass(frozen=True)
class Place:
    """Before a batch.

    Attributes:
        epoch: number of the epoch, from 0.
        since: batches of the epoch that come before.
        account: the loader's own account of where it stands, if it gives one.
    """

    epoch: int
    since: int
    account: Mapping[str, Any] | None = None


class Reader:
    """Reads a loader, epoch by epoch, with random numbers that follow from seed, epoch and place.

    Args:
        key: what the loader is called where it is given, for messages.
        loader: gives batches.
        streams, stream: where random numbers come from.

    >>> reader = Reader("train", ["a", "b"], Streams(0, 0, torch.device("cpu")), "epoch")
    >>> reader.read(), reader.read(), reader.read() is END
    ('a', 'b', True)
    >>> reader.stand(Place(0, 1))
    >>> reader.read()
    'b'
    """

    def __init__(self, key: str, loader: Iterable[Any], streams: Streams, stream: str) -> None:
        self.key = key
        self.loader = loader
        self._streams = streams
        self._stream = stream
        # workers draw from generators of their own, which are seeded when an epoch begins
        self._draws_here = not getattr(loader, "num_workers", 0) and not isinstance(loader, list | tuple)
        self._accounts = all(callable(getattr(loader, name, None)) for name in ("state_dict", "load_state_dict"))
        self._place = Place(0, 0)
        self._coming: Iterator[Any] | None = None
        self._opened = False

    @property
    def only_once(self) -> bool:
        """Whether the loader is an iterator, which cannot begin again."""
        return isinstance(self.loader, Iterator)

    @property
    def place(self) -> Place:
        """Where the reader stands, with the loader's own account of it."""
        if self._coming is None or not self._accounts:
            return self._place
        account = self.loader.state_dict()  # type: ignore[attr-defined]
        return Place(self._place.epoch, self._place.since, account)

    def stand(self, place: Place) -> None:
        """Goes to a place; what has to be passed over is read when the next batch is."""
        self._coming = None
        self._place = place

    def read(self) -> Any:
        """The next batch of the epoch, or ``END``.

        Raises:
            SettingError: if the loader cannot go there, because it is over or gives nothing.
        """
        if self._coming is None:
            self._coming = self._open()
        batch = self._pull(self._coming)
        if batch is END and self._place.since == 0:
            raise SettingError(self.key, f"gives no batch in epoch {self._place.epoch}; give one that has some")
        return batch

    def _open(self) -> Iterator[Any]:
        """An iterator that stands at the place."""
        if self.only_once and self._opened:
            raise SettingError(
                self.key,
                "is an iterator that has ended or would have to go back, and cannot begin again; give what can be"
                " iterated over anew, such as a DataLoader, or train for fewer steps",
            )
        self._opened = True
        target, self._place = self._place, Place(self._place.epoch, 0)
        if target.account is not None and self._accounts:
            self.loader.load_state_dict(target.account)  # type: ignore[attr-defined]
        with self._drawing(begins=True):
            self._tell_epoch()
            coming = Released(iter(self.loader))
        if target.account is not None and self._accounts:
            self._place = target
        while self._place.since < target.since:
            if self._pull(coming) is END:
                raise SettingError(
                    self.key,
                    f"gave {target.since} batches of an epoch before, and now {self._place.since}; go on with the"
                    " data that the run began with",
                )
        return coming

    def _pull(self, coming: Iterator[Any]) -> Any:
        with self._drawing() if self._draws_here else nullcontext():
            batch = next(coming, END)
        if batch is not END:
            self._place = Place(self._place.epoch, self._place.since + 1)
        return batch

    def _drawing(self, begins: bool = False) -> AbstractContextManager[None]:
        place = (self._place.epoch << 32) + (0 if begins else 1 + self._place.since)
        return seeded(self._streams.seed_of(self._stream, _OWN + place))

    def _tell_epoch(self) -> None:
        """Seeds the generators that the loader has of its own, and tells it which epoch begins."""
        seed = self._streams.seed_of(self._stream, _OWN + (self._place.epoch << 32))
        for part in self._parts():
            if isinstance(part, RandomSampler | SubsetRandomSampler) and part.generator is None:
                # what it would draw from the global one depends on what a loader draws before, which varies
                part.generator = torch.Generator()
            generator, set_epoch = getattr(part, "generator", None), getattr(part, "set_epoch", None)
            if isinstance(generator, torch.Generator):
                generator.manual_seed(seed)
            if callable(set_epoch):
                set_epoch(self._place.epoch)

    def _parts(self) -> Iterator[Any]:
        """The loader and what it draws from, each object once."""
        batches = getattr(self.loader, "batch_sampler", None)
        examples = getattr(self.loader, "sampler", None), getattr(batches, "sampler", None)
        parts = (self.loader, getattr(self.loader, "dataset", None), batches, *examples)
        yield from {id(part): part for part in parts if part is not None}.values()
