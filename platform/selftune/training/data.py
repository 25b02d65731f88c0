"""Mini-batches of splits held on the device: no loader, no copies from the host, no state but the step."""

from __future__ import annotations

import bisect
import itertools
from collections.abc import Mapping, Sequence

import torch

from selftune.data import Split
from selftune.domains import groups
from selftune.objective import Stage
from selftune.shapes import Int, Tensor
from selftune.training.seeds import Streams


class Batches:
    """Draws mini-batches without replacement within an epoch; the last, smaller batch is dropped.

    Args:
        split: tensors of all examples, on the device.
        size: examples per batch; None takes the whole split every time, in its own order.
        streams, stream: where the order of each epoch comes from.
        stages: which examples are drawn for how many steps; the last stage goes on for ever.
        balanced_by: name of a tensor of whole numbers, of which every batch holds each value as often. A value's
            examples are drawn without replacement, and begin anew whenever they are through.
    """

    def __init__(
        self,
        split: Split,
        size: int | None,
        streams: Streams,
        stream: str,
        stages: Sequence[Stage] = (),
        balanced_by: str | None = None,
    ) -> None:
        self.split = split
        self.examples = len(next(iter(split.values())))
        self.size = size
        self.stages = tuple(stages)
        self._ends = list(itertools.accumulate(stage.steps for stage in stages))
        self.streams = streams
        self._stream = stream
        device = next(iter(split.values())).device
        pools = [stage.index.to(device) for stage in stages] or [torch.arange(self.examples, device=device)]
        self._pools = [[pool] if balanced_by is None else groups(split[balanced_by], pool) for pool in pools]
        self._orders: dict[int, tuple[tuple[int, int, int], Tensor]] = {}

    def stage(self, step: int) -> int:
        """Number of the stage that a step belongs to, from 0."""
        return min(bisect.bisect_right(self._ends, step), max(0, len(self._ends) - 1))

    def epoch(self, step: int) -> int:
        """Number of the epoch that a step belongs to, from 0; each stage has epochs of its own."""
        assert self.size is not None
        stage, since = self._since(step)
        return since // (sum(map(len, self._pools[stage])) // self.size)

    def epochs(self, step: int, steps: int) -> int:
        """How many epochs the stage of a step begins, in a run of so many steps."""
        stage = self.stage(step)
        end = min(steps, self._ends[stage]) if stage + 1 < len(self._ends) else steps
        return self.epoch(max(step, end - 1)) + 1

    def _since(self, step: int) -> tuple[int, int]:
        """The stage, and the steps since it began."""
        if not self.stages:
            return 0, step
        stage = self.stage(step)
        return stage, step - self._ends[stage] + self.stages[stage].steps

    def index(self, step: int) -> Int[Tensor, "batch"] | None:
        """Positions of the examples of the given step; None for the whole split."""
        if self.size is None:
            return None
        stage, since = self._since(step)
        pools = self._pools[stage]
        share = self.size // len(pools)
        parts = []
        for number, pool in enumerate(pools):
            turn, position = divmod(since, len(pool) // share)
            parts.append(self._order(stage, number, turn)[position * share : (position + 1) * share])
        return parts[0] if len(parts) == 1 else torch.stack(parts, dim=1).reshape(-1)

    def _order(self, stage: int, number: int, turn: int) -> Int[Tensor, "pool"]:
        """The examples of a pool in the order of one of its turns; the last one of every pool is remembered."""
        key = self.streams.member, stage, turn
        if number not in self._orders or self._orders[number][0] != key:
            pool = self._pools[stage][number]
            generator = self.streams(self._stream, (number << 48) + (stage << 32) + turn)
            order = torch.randperm(len(pool), generator=generator, device=generator.device)
            self._orders[number] = key, pool[order]
        return self._orders[number][1]

    def batch(self, index: Int[Tensor, "batch"] | None) -> Mapping[str, Tensor]:
        """The examples at these positions."""
        if index is None:
            return self.split
        return {name: tensor.index_select(0, index) for name, tensor in self.split.items()}
