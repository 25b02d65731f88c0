"""Mini-batches of splits held on the device: no loader, no copies from the host, no state but the step."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch

from selftune.data.drawn import Drawn
from selftune.data.nested import mapped, rows_of, size_of, tensors_in
from selftune.lower_level.objective import Stage
from selftune.shapes import Int, Tensor
from selftune.training.seeds import Streams
from selftune.training.sources.batch_source import BatchSource
from selftune.training.sources.order import Order


class MemorySource(BatchSource):
    """Batches of examples that are all on the device, drawn without replacement within an epoch.

    Args:
        data: tensors of all examples, on the device.
        size: examples per batch; None takes all of them every time, in their own order.
        streams, stream: where the order of each epoch comes from.
        stages: which examples are drawn for how many steps; the last stage goes on for ever.
        balanced_by: name of a tensor of whole numbers, of which every batch holds each value as often. A value's
            examples are drawn without replacement, and begin anew whenever they are through.

    >>> data = {"inputs": torch.arange(6.0), "labels": torch.arange(6)}
    >>> source = MemorySource(data, 2, Streams(0, 0, torch.device("cpu")), "epoch")
    >>> sorted(source.at(0).index.tolist() + source.at(1).index.tolist() + source.at(2).index.tolist())
    [0, 1, 2, 3, 4, 5]
    >>> source.epoch(3)
    1
    """

    def __init__(
        self,
        data: Any,
        size: int | None,
        streams: Streams,
        stream: str,
        stages: Sequence[Stage] = (),
        balanced_by: str | None = None,
    ) -> None:
        super().__init__(stages)
        self.data = data
        self.examples: int = size_of(data)
        self.size = size
        device = next(tensors_in(data)).device
        self._order: Order | None = None
        if size is not None:
            pools = [stage.index.to(device) for stage in stages] or [torch.arange(self.examples, device=device)]
            values = None if balanced_by is None else data[balanced_by]
            self._order = Order(size, pools, streams, stream, values)

    def at(self, step: int) -> Drawn:
        index = self.index(step)
        return Drawn(index, self.data if index is None else self.rows(index))

    def epoch(self, step: int) -> int:
        assert self._order is not None
        return self._order.epoch(*self.timetable.since(step))

    def once(self, size: int) -> Iterator[Any]:
        for start in range(0, self.examples, size):
            rows = slice(start, start + size)
            yield mapped(lambda tensor: tensor[rows], self.data)  # noqa: B023

    def index(self, step: int) -> Int[Tensor, "batch"] | None:
        """Positions of the examples of the given step; None for all of them."""
        return None if self._order is None else self._order.index(*self.timetable.since(step))

    def rows(self, index: Int[Tensor, "rows"]) -> Any:
        return rows_of(self.data, index)
