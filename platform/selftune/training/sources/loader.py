"""Batches of a ready data loader, or of whatever else can be iterated over."""

from __future__ import annotations

import bisect
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import torch
from torch.utils.data import DataLoader, IterableDataset

from selftune.data.drawn import Drawn
from selftune.data.kinds import examples_of
from selftune.data.nested import moved
from selftune.errors import SettingError
from selftune.training.seeds import Streams
from selftune.training.sources.batch_source import BatchSource
from selftune.training.sources.reader import END, Place, Reader
from selftune.training.sources.window import Window


class LoaderSource(BatchSource):
    """Batches of a ``DataLoader`` or another iterable, over and over; which examples they hold, nobody knows.

    Every epoch begins with generators that follow from seed and epoch: the global ones of torch, Python and numpy,
    and those of the loader and of its sampler; ``set_epoch`` of sampler and data set is called where there is one.
    So an epoch can be gone through again. A loader with ``state_dict`` and ``load_state_dict``, as torchdata's
    ``StatefulDataLoader`` has them, goes on at once where a run stopped; another one passes over the batches of
    the epoch that came before, which takes as long as to load them. What transforms draw is the same then, except
    in workers that outlive an epoch (``persistent_workers``), or that torchdata starts in the middle of one.

    Args:
        key: what the loader is called where it is given, for messages.
        loader: gives batches; one that can be gone through again, or it ends after its last batch.
        streams, stream: where random numbers come from.
        device: where batches are wanted.
        arrange: makes of what the loader gives the batch that is wanted.

    >>> batches = [torch.tensor([0, 1]), torch.tensor([2, 3])]
    >>> source = LoaderSource("train", batches, Streams(0, 0, torch.device("cpu")), "epoch", torch.device("cpu"))
    >>> [source.at(step).batch.tolist() for step in range(3)]
    [[0, 1], [2, 3], [0, 1]]
    >>> source.epoch(2)
    1
    """

    def __init__(
        self,
        key: str,
        loader: Iterable[Any],
        streams: Streams,
        stream: str,
        device: torch.device,
        arrange: Callable[[Any], Any] | None = None,
    ) -> None:
        super().__init__()
        self.key = key
        self.loader = loader
        self.device = device
        self._arrange = arrange or _as_it_is
        self.examples = examples_of(loader)
        self._streams = streams
        self._reader = Reader(key, loader, streams, stream)
        self._of_an_epoch = _batches_of(loader)
        self._starts = [0]  # of the epochs so far, where nobody knows how many batches they have
        self._window = Window()
        self._places: dict[int, Place] = {}  # of the batches of the window
        self._next = 0
        self._member = streams.member

    def at(self, step: int) -> Drawn:
        if self._member != self._streams.member:  # whose epochs are others
            self._member = self._streams.member
            self._go_to(step)
        drawn = self._window.get(step)
        if drawn is not None:
            return drawn
        if step < self._next or self._is_epochs_ahead(step):
            self._go_to(step)
        while self._next <= step:
            place, batch = self._draw()
        drawn = Drawn(None, moved(self._arrange(batch), self.device))
        self._window.keep(step, drawn)
        self._places[step] = place
        return drawn

    def epoch(self, step: int) -> int:
        if self._of_an_epoch:
            return step // self._of_an_epoch
        return bisect.bisect_right(self._starts, step) - 1

    def epochs(self, step: int, steps: int) -> int:
        """How many epochs begin in a run of so many steps.

        Raises:
            SettingError: if nobody knows how many batches an epoch has.
        """
        if not self._of_an_epoch:
            raise SettingError(
                self.key,
                "does not say how many batches an epoch has, so that nobody knows how many epochs there will be;"
                " give a loader of a data set with a length, or leave out what is scheduled by epochs",
            )
        return super().epochs(step, steps)

    def once(self, size: int) -> Iterator[Any]:
        """All batches once, as the loader makes them, whatever the size.

        Raises:
            SettingError: if the loader is an iterator, which would be used up.
        """
        if self._reader.only_once:
            raise SettingError(self.key, "is an iterator, which can be gone through only once; give a DataLoader")
        here = self._reader.place  # a loader may have one iterator at a time
        self._reader.stand(Place(0, 0))
        try:
            while (batch := self._reader.read()) is not END:
                yield moved(self._arrange(batch), self.device)
        finally:
            self._reader.stand(here)

    def forget(self, before: int) -> None:
        self._window.forget(before)
        self._places = {step: place for step, place in self._places.items() if step >= before}

    def state_dict(self) -> dict[str, Any]:
        step = self._window.first
        place = self._reader.place if step is None else self._places[step]
        return {
            "step": self._next if step is None else step,
            "place": (place.epoch, place.since, place.account),
            "starts": None if self._of_an_epoch else list(self._starts),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        if state["starts"] is not None:
            self._of_an_epoch, self._starts = None, list(state["starts"])
        self._member = self._streams.member
        self._stand(state["step"], Place(*state["place"]))

    def _is_epochs_ahead(self, step: int) -> bool:
        return bool(self._of_an_epoch) and self.epoch(step) > self.epoch(self._next)

    def _go_to(self, step: int) -> None:
        """Stands at the beginning of the epoch of a step, or of the last epoch that is known before it."""
        epoch = self.epoch(step)
        self._stand(epoch * self._of_an_epoch if self._of_an_epoch else self._starts[epoch], Place(epoch, 0))

    def _stand(self, step: int, place: Place) -> None:
        self._window.clear()
        self._places.clear()
        del self._starts[place.epoch + 1 :]  # what follows is met again
        self._next = step
        self._reader.stand(place)

    def _draw(self) -> tuple[Place, Any]:
        """The batch of the next step, and where it was drawn."""
        place = self._reader.place
        batch = self._reader.read()
        if batch is END:
            self._end_epoch(place)
            self._reader.stand(Place(place.epoch + 1, 0))
            place = self._reader.place
            batch = self._reader.read()
        self._next += 1
        return place, batch

    def _end_epoch(self, place: Place) -> None:
        """The epoch is through; its length may not be what the loader said."""
        if self._of_an_epoch and place.since != self._of_an_epoch:
            self._starts = [number * self._of_an_epoch for number in range(place.epoch + 1)]
            self._of_an_epoch = None
        if not self._of_an_epoch:
            self._starts.append(self._next)


def _as_it_is(batch: Any) -> Any:
    return batch


def _batches_of(loader: Any) -> int | None:
    """How many batches an epoch has, where the loader is sure to know: not for a stream."""
    if isinstance(loader, DataLoader) and isinstance(loader.dataset, IterableDataset):
        return None
    return len(loader) if isinstance(loader, DataLoader | list | tuple) else None
