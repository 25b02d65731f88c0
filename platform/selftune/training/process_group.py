"""Means over the processes that train one network together, each on its part of every batch."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.distributed as dist

from selftune.shapes import Tensor


class ProcessGroup:
    """One process alone, whose means are its own numbers.

    Attributes:
        size: number of processes.
        rank: number of this one, from 0.
    """

    size = 1
    rank = 0

    def mean(self, tensor: Tensor) -> Tensor:
        """The mean of a tensor over the processes, detached where there are several."""
        return tensor

    def means(self, tensors: Sequence[Tensor | None]) -> Sequence[Tensor | None]:
        """The mean of each tensor; None where it is None, which is so in all processes alike."""
        return tensors


class DistributedGroup(ProcessGroup):
    """All processes of ``torch.distributed``, as torchrun, Accelerate or Lightning start them."""

    def __init__(self) -> None:
        self.size = dist.get_world_size()
        self.rank = dist.get_rank()

    def mean(self, tensor: Tensor) -> Tensor:
        total = tensor.detach().clone()
        dist.all_reduce(total)
        return total / self.size

    def means(self, tensors: Sequence[Tensor | None]) -> Sequence[Tensor | None]:
        there = [tensor for tensor in tensors if tensor is not None]
        flat = self.mean(torch.cat([tensor.reshape(-1) for tensor in there]))
        pieces = iter(torch.split(flat, [tensor.numel() for tensor in there]))
        return [None if tensor is None else next(pieces).view_as(tensor) for tensor in tensors]


ALONE = ProcessGroup()


def process_group() -> ProcessGroup:
    """The processes that this one belongs to."""
    together = dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1
    return DistributedGroup() if together else ALONE
