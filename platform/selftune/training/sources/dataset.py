"""Batches of a map-style data set: the examples are drawn here, torch's workers load them ahead."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch

from selftune.data.drawn import Drawn
from selftune.data.examples import Request, all_in_order, fetched
from selftune.data.nested import moved
from selftune.lower_level.objective import Stage
from selftune.shapes import Int, Tensor
from selftune.training.seeds import Streams
from selftune.training.sources.batch_source import BatchSource
from selftune.training.sources.held import held
from selftune.training.sources.memory import MemorySource
from selftune.training.sources.order import Order
from selftune.training.sources.window import Window

_OWN = 1 << 62  # behind what an order draws from the same stream


class DatasetSource(BatchSource):
    """Batches of a ``torch.utils.data.Dataset`` with ``__getitem__`` and ``__len__``.

    Which examples make a batch, and in what order, is as for tensors in memory, to the last bit. What the data set
    draws from the global generators of torch, Python and numpy, as transforms do, follows from seed and step. So a
    run goes on at any step as if it had never stopped, at no cost.

    Args:
        dataset: items by position.
        size: examples per batch.
        streams, stream: where order and random numbers come from.
        device: where batches are wanted; for a GPU they go through pinned memory.
        stages: which examples are drawn for how many steps; the last stage goes on for ever.
        collate: makes a batch of a list of items; torch's ``default_collate`` where it is None.
        workers: processes that load ahead; 0 loads in this process when a batch is due.
        arrange: makes of what was loaded the batch that is wanted.
        memory: bytes of the device's memory that may hold the data set. If it fits, it is read once, before the
            first batch, and every epoch has its examples as they were then, also if a transform drew them.

    >>> data = [(torch.tensor(float(n)), n % 2) for n in range(6)]
    >>> source = DatasetSource(data, 2, Streams(0, 0, torch.device("cpu")), "epoch", torch.device("cpu"))
    >>> drawn = source.at(0)
    >>> torch.equal(drawn.batch[0], drawn.index.float())
    True
    """

    examples: int

    def __init__(
        self,
        dataset: Any,
        size: int,
        streams: Streams,
        stream: str,
        device: torch.device,
        stages: Sequence[Stage] = (),
        collate: Callable[[list[Any]], Any] | None = None,
        workers: int = 0,
        arrange: Callable[[Any], Any] | None = None,
        memory: int = 0,
    ) -> None:
        super().__init__(stages)
        self.dataset = dataset
        self.examples = len(dataset)
        self.size = size
        self.device = device
        self._streams = streams
        self._stream = stream
        self._collate = collate
        self._workers = workers
        self._arrange = arrange or _as_it_is
        self._memory = memory
        # on the CPU, where the workers' requests are made
        self._order = Order(
            size, [s.index.cpu() for s in stages] or [torch.arange(self.examples)], streams, stream
        )
        self._held: MemorySource | None = None
        self._window = Window()
        self._requested: dict[int, Int[Tensor, "batch"]] = {}
        self._coming: Iterator[Any] | None = None
        self._next = 0
        self._member = streams.member

    def at(self, step: int) -> Drawn:
        in_memory = self._in_memory()
        if in_memory is not None:
            return in_memory.at(step)
        if self._member != self._streams.member:  # whose batches are others
            self._member = self._streams.member
            self._window.clear()
            self._coming = None
        drawn = self._window.get(step)
        if drawn is not None:
            return drawn
        if self._coming is None or not self._next <= step <= self._next + self._ahead:
            self._begin(step)
        while self._next <= step:
            drawn = self._draw()
        assert drawn is not None
        return drawn

    def epoch(self, step: int) -> int:
        return self._order.epoch(*self.timetable.since(step))

    def forget(self, before: int) -> None:
        self._window.forget(before)

    def once(self, size: int) -> Iterator[Any]:
        in_memory = self._in_memory()
        if in_memory is not None:
            yield from in_memory.once(size)
            return
        requests = all_in_order(self.examples, size, self._streams.seed_of(self._stream, _OWN - 1))
        for batch in fetched(self.dataset, requests, self._collate, self._workers, self._pinned):
            yield moved(self._arrange(batch), self.device)

    def rows(self, index: Int[Tensor, "rows"]) -> Any:
        in_memory = self._in_memory()
        if in_memory is not None:
            return in_memory.rows(index)
        request = Request(self._streams.seed_of(self._stream, _OWN - 1), index.tolist())
        (batch,) = fetched(self.dataset, [request], self._collate, 0, self._pinned)
        return moved(self._arrange(batch), self.device)

    @property
    def _pinned(self) -> bool:
        return self.device.type == "cuda"

    @property
    def _ahead(self) -> int:
        """How many steps are passed over rather than begun anew behind: what workers have loaded by then."""
        return 2 * self._workers

    def _begin(self, step: int) -> None:
        """Batches come from this step on."""
        self._requested = {}
        self._next = step
        order, timetable, requested = self._order, self.timetable, self._requested
        streams, stream = self._streams, self._stream

        def requests() -> Iterator[Request]:  # without the source, which could not be let go of otherwise
            for number in itertools.count(step):
                index = requested[number] = order.index(*timetable.since(number))
                yield Request(streams.seed_of(stream, _OWN + number), index.tolist())

        self._coming = fetched(self.dataset, requests(), self._collate, self._workers, self._pinned)

    def _draw(self) -> Drawn:
        assert self._coming is not None
        batch = moved(self._arrange(next(self._coming)), self.device)
        drawn = Drawn(moved(self._requested.pop(self._next), self.device), batch)
        self._window.keep(self._next, drawn)
        self._next += 1
        return drawn

    def _in_memory(self) -> MemorySource | None:
        """The whole data set on the device, where its share of memory holds it."""
        if self._memory and self._held is None:
            seed = self._streams.seed_of(self._stream, _OWN - 1)
            data = held(self.dataset, self._memory, seed, self.device, self._collate, self._workers)
            if data is None:
                self._memory = 0
            else:
                self._held = MemorySource(self._arrange(data), self.size, self._streams, self._stream, self.stages)
        return self._held


def _as_it_is(batch: Any) -> Any:
    return batch
