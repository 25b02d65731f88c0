"""Mini-batches of splits held on the device: no loader, no copies from the host, no state but the step."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from selftune.objective import Split
from selftune.shapes import Int, Tensor
from selftune.training.seeds import Streams


class Batches:
    """Draws mini-batches without replacement within an epoch; the last, smaller batch is dropped.

    Args:
        split: tensors of all examples, on the device.
        size: examples per batch; None takes the whole split every time, in its own order.
        streams, stream: where the order of each epoch comes from.
    """

    def __init__(self, split: Split, size: int | None, streams: Streams, stream: str) -> None:
        self.split = split
        self.examples = len(next(iter(split.values())))
        self.size = size
        self._streams = streams
        self._stream = stream
        self._epoch = -1
        self._order = torch.empty(0)

    def index(self, step: int) -> Int[Tensor, "batch"] | None:
        """Positions of the examples of the given step; None for the whole split."""
        if self.size is None:
            return None
        per_epoch = self.examples // self.size
        epoch, position = divmod(step, per_epoch)
        if epoch != self._epoch:
            generator = self._streams(self._stream, epoch)
            self._order = torch.randperm(self.examples, generator=generator, device=generator.device)
            self._epoch = epoch
        return self._order[position * self.size : (position + 1) * self.size]

    def batch(self, index: Int[Tensor, "batch"] | None) -> Mapping[str, Tensor]:
        """The examples at these positions."""
        if index is None:
            return self.split
        return {name: tensor[index] for name, tensor in self.split.items()}
