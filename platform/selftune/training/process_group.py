"""The processes that train one network together, and what they make of their numbers.

There are two ways to share a batch. In a loop of one's own every process brings its own part of it
(``DistributedGroup``). The workers of a trainer all have the whole batch, and each runs the network on a part
(``DataParallelGroup``): outputs come together, so that what looks at several examples sees all of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.distributed as dist

from selftune.data.nested import mapped
from selftune.shapes import Float, Tensor


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

    def over_batches(self, tensor: Tensor) -> Tensor:
        """The mean of a tensor over the batches of the processes, where each brings one of its own."""
        return tensor

    def draws(self, rows: int) -> int:
        """How many draws there are for the batches of all processes, of which this one has so many rows."""
        return rows

    def own_draws(self, draws: Float[Tensor, "all ..."]) -> Float[Tensor, "rows ..."]:
        """Those of the draws that belong to the batch of this process."""
        return draws

    def part(self, rows: int) -> slice | None:
        """Which of a batch's rows this process runs the network on; None for all."""
        return None

    def joined(self, outputs: Any, rows: int, exact: bool = False) -> Any:
        """What the network gave for all rows of a batch, of what it gave for ``part`` of them.

        Gradients that flow back through it are to be averaged over the processes.

        Args:
            outputs: tensors, alone or in tuples, lists and mappings, rows along the first axis.
            rows: of the batch.
            exact: whether gradients of gradients are wanted, too.
        """
        return outputs

    def same_buffers(self, buffers: Sequence[Tensor]) -> None:
        """Gives all processes the buffers of the first one."""


class _SeveralProcesses(ProcessGroup):
    """All processes of ``torch.distributed``."""

    def __init__(self) -> None:
        self.size = dist.get_world_size()
        self.rank = dist.get_rank()

    def mean(self, tensor: Tensor) -> Tensor:
        total = tensor.detach().clone()
        dist.all_reduce(total)
        return total / self.size

    def means(self, tensors: Sequence[Tensor | None]) -> Sequence[Tensor | None]:
        there = [tensor for tensor in tensors if tensor is not None]
        if not there:
            return tensors
        flat = self.mean(torch.cat([tensor.reshape(-1) for tensor in there]))
        pieces = iter(torch.split(flat, [tensor.numel() for tensor in there]))
        return [None if tensor is None else next(pieces).view_as(tensor) for tensor in tensors]


class DistributedGroup(_SeveralProcesses):
    """Processes that bring batches of their own, as torchrun, Accelerate or Lightning start them."""

    def over_batches(self, tensor: Tensor) -> Tensor:
        return self.mean(tensor)

    def draws(self, rows: int) -> int:
        return rows * self.size

    def own_draws(self, draws: Float[Tensor, "all ..."]) -> Float[Tensor, "rows ..."]:
        return draws.chunk(self.size)[self.rank]


class DataParallelGroup(_SeveralProcesses):
    """Processes that see the same batches; each runs the network on a part of every one.

    A batch with fewer rows than there are processes is run by all of them as a whole.
    """

    def part(self, rows: int) -> slice | None:
        return None if rows < self.size else slice(*self._bounds(rows, self.rank))

    def _bounds(self, rows: int, rank: int) -> tuple[int, int]:
        """Parts differ by one row at most; larger ones come first."""
        share, more = divmod(rows, self.size)
        return rank * share + min(rank, more), (rank + 1) * share + min(rank + 1, more)

    def joined(self, outputs: Any, rows: int, exact: bool = False) -> Any:
        start, end = self._bounds(rows, self.rank)

        def whole(tensor: Tensor) -> Tensor:
            if not tensor.ndim or len(tensor) != end - start:
                raise RuntimeError(
                    f"the network put out {tuple(tensor.shape)} for {end - start} examples, which are no rows"
                )
            found: Tensor = _Joined.apply(tensor, self, rows, exact)  # type: ignore[no-untyped-call]
            return found

        return mapped(whole, outputs)

    def gathered(self, own: Float[Tensor, "part ..."], rows: int) -> Float[Tensor, "rows ..."]:
        """The parts of all processes, one after the other."""
        most = self._bounds(rows, 0)[1]
        padded = own.detach()
        if len(own) < most:
            padded = torch.cat([padded, padded.new_zeros(most - len(own), *own.shape[1:])])
        places = [torch.empty_like(padded) for _ in range(self.size)]
        dist.all_gather(places, padded.contiguous())
        ends = [self._bounds(rows, rank) for rank in range(self.size)]
        return torch.cat([place[: end - start] for place, (start, end) in zip(places, ends, strict=True)])

    def same_buffers(self, buffers: Sequence[Tensor]) -> None:
        for kind in {buffer.dtype for buffer in buffers}:
            alike = [buffer for buffer in buffers if buffer.dtype == kind]
            flat = torch.cat([buffer.reshape(-1) for buffer in alike])
            dist.broadcast(flat, 0)
            for buffer, piece in zip(alike, torch.split(flat, [b.numel() for b in alike]), strict=True):
                buffer.copy_(piece.view_as(buffer))


class _Joined(torch.autograd.Function):
    """The rows of all processes, of those of one.

    What is computed of them is the same in all processes, and so is its gradient: of the sum of all processes'
    losses the gradient in a process's own rows is as many times that of one loss. Of gradients of gradients that
    does not hold, because each process has those of its own rows only: they are added up.
    """

    @staticmethod
    def forward(ctx: Any, own: Tensor, group: DataParallelGroup, rows: int, exact: bool) -> Tensor:
        ctx.group, ctx.rows, ctx.exact = group, rows, exact
        return group.gathered(own, rows)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None, None]:
        group = ctx.group
        total = _summed(gradient) if ctx.exact else gradient * group.size
        return total[group.part(ctx.rows)], None, None, None


class _Summed(torch.autograd.Function):
    """The sum over the processes, of which each goes on with it."""

    @staticmethod
    def forward(ctx: Any, tensor: Tensor) -> Tensor:
        total = tensor.detach().clone(memory_format=torch.contiguous_format)
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return _summed(gradient)


def _summed(tensor: Tensor) -> Tensor:
    found: Tensor = _Summed.apply(tensor)  # type: ignore[no-untyped-call]
    return found


ALONE = ProcessGroup()


def process_group() -> ProcessGroup:
    """The processes that this one belongs to."""
    together = dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1
    return DistributedGroup() if together else ALONE
