"""Which examples make the batch of a step, in data whose examples are known by their position."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from selftune.data.domains import groups
from selftune.shapes import Int, Tensor
from selftune.training.seeds import Streams


class Order:
    """Draws positions without replacement within an epoch; the last, smaller batch is dropped.

    The positions of a step follow from its number and the seed, so there is no state to save.

    Args:
        size: examples per batch.
        pools: the positions that are drawn from, one pool per stage.
        streams, stream: where the order of each epoch comes from.
        values: whole numbers, one per example of the data, of which every batch holds each value as often. A
            value's examples are drawn without replacement, and begin anew whenever they are through.

    >>> order = Order(2, [torch.arange(6)], Streams(0, 0, torch.device("cpu")), "epoch")
    >>> sorted(torch.cat([order.index(0, step) for step in range(3)]).tolist())
    [0, 1, 2, 3, 4, 5]
    """

    def __init__(
        self,
        size: int,
        pools: Sequence[Int[Tensor, "pool"]],
        streams: Streams,
        stream: str,
        values: Int[Tensor, "examples"] | None = None,
    ) -> None:
        self.size = size
        self.streams = streams
        self._stream = stream
        self._pools = [[pool] if values is None else groups(values, pool) for pool in pools]
        self._orders: dict[int, tuple[tuple[int, int, int], Tensor]] = {}

    def epoch(self, stage: int, since: int) -> int:
        """Number of the epoch, from 0, that a stage is in after so many steps of it."""
        return since // (sum(map(len, self._pools[stage])) // self.size)

    def index(self, stage: int, since: int) -> Int[Tensor, "batch"]:
        """Positions of the examples of the step that follows so many others of its stage."""
        pools = self._pools[stage]
        share = self.size // len(pools)
        parts = []
        for number, pool in enumerate(pools):
            turn, position = divmod(since, len(pool) // share)
            parts.append(self._turn(stage, number, turn)[position * share : (position + 1) * share])
        return parts[0] if len(parts) == 1 else torch.stack(parts, dim=1).reshape(-1)

    def _turn(self, stage: int, number: int, turn: int) -> Int[Tensor, "pool"]:
        """The examples of a pool in the order of one of its turns; the last one of every pool is remembered."""
        key = self.streams.member, stage, turn
        if number not in self._orders or self._orders[number][0] != key:
            pool = self._pools[stage][number]
            generator = self.streams(self._stream, (number << 48) + (stage << 32) + turn)
            order = torch.randperm(len(pool), generator=generator, device=generator.device)
            self._orders[number] = key, pool[order.to(pool.device)]
        return self._orders[number][1]
