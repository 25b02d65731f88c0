"""Mini-batches of splits held on the device: no loader, no copies from the host, no state but the step."""

from __future__ import annotations

import bisect
import itertools
from collections.abc import Mapping, Sequence

import torch

from selftune.objective import Split, Stage
from selftune.shapes import Int, Tensor
from selftune.training.seeds import Streams


class Batches:
    """Draws mini-batches without replacement within an epoch; the last, smaller batch is dropped.

    Args:
        split: tensors of all examples, on the device.
        size: examples per batch; None takes the whole split every time, in its own order.
        streams, stream: where the order of each epoch comes from.
        stages: which examples are drawn for how many steps; the last stage goes on for ever.
    """

    def __init__(
        self, split: Split, size: int | None, streams: Streams, stream: str, stages: Sequence[Stage] = ()
    ) -> None:
        self.split = split
        self.examples = len(next(iter(split.values())))
        self.size = size
        self.stages = tuple(stages)
        self._ends = list(itertools.accumulate(stage.steps for stage in stages))
        self.streams = streams
        self._stream = stream
        self._drawn = (-1, -1, -1)
        self._order = torch.empty(0)

    def stage(self, step: int) -> int:
        """Number of the stage that a step belongs to, from 0."""
        return min(bisect.bisect_right(self._ends, step), max(0, len(self._ends) - 1))

    def epoch(self, step: int) -> int:
        """Number of the epoch that a step belongs to, from 0; each stage has epochs of its own."""
        return self._place(step)[1]

    def _place(self, step: int) -> tuple[int, int, int]:
        """(stage, epoch, position of the batch in it)."""
        assert self.size is not None
        stage, examples = 0, self.examples
        if self.stages:
            stage = self.stage(step)
            step -= self._ends[stage] - self.stages[stage].steps
            examples = len(self.stages[stage].index)
        return stage, *divmod(step, examples // self.size)

    def index(self, step: int) -> Int[Tensor, "batch"] | None:
        """Positions of the examples of the given step; None for the whole split."""
        if self.size is None:
            return None
        stage, epoch, position = self._place(step)
        if (self.streams.member, stage, epoch) != self._drawn:
            generator = self.streams(self._stream, (stage << 32) + epoch)
            examples = len(self.stages[stage].index) if self.stages else self.examples
            self._order = torch.randperm(examples, generator=generator, device=generator.device)
            if self.stages:
                self._order = self.stages[stage].index.to(self._order.device)[self._order]
            self._drawn = self.streams.member, stage, epoch
        return self._order[position * self.size : (position + 1) * self.size]

    def batch(self, index: Int[Tensor, "batch"] | None) -> Mapping[str, Tensor]:
        """The examples at these positions."""
        if index is None:
            return self.split
        return {name: tensor.index_select(0, index) for name, tensor in self.split.items()}
