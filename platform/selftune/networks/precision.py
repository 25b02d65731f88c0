"""Types that hold averages, losses and small steps, where a network computes in half precision."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import torch

from selftune.shapes import Tensor


def wide_type(*dtypes: torch.dtype) -> torch.dtype:
    """The widest of the types, float32 at least.

    A type of half precision has 8 or 11 bits: 0.999 is 1 in bfloat16, and a mean of losses has two digits.

    >>> wide_type(torch.bfloat16), wide_type(torch.float32, torch.float64)
    (torch.float32, torch.float64)
    """
    result = torch.float32
    for dtype in dtypes:
        result = torch.promote_types(result, dtype)
    return result


def widened(tensor: Tensor) -> Tensor:
    """A tensor of half precision in float32, others as they are; differentiable.

    >>> widened(torch.zeros((), dtype=torch.bfloat16)).dtype, widened(torch.tensor(1)).dtype
    (torch.float32, torch.int64)
    """
    return tensor.float() if isinstance(tensor, Tensor) and is_half(tensor) else tensor


class WideTensors(Mapping[str, Tensor]):
    """Tensors by name, those of half precision as differentiable copies in float32.

    Norms, ranks and distances of weights are no better than the precision that they are computed in, and torch
    decomposes no matrix of half precision.
    """

    def __init__(self, plain: Mapping[str, Tensor]) -> None:
        self.plain = plain

    def __getitem__(self, name: str) -> Tensor:
        return widened(self.plain[name])

    def __iter__(self) -> Iterator[str]:
        return iter(self.plain)

    def __len__(self) -> int:
        return len(self.plain)


def is_half(tensor: Tensor) -> bool:
    return tensor.dtype in (torch.bfloat16, torch.float16)


def typed_as(tensor: Tensor, like: Tensor) -> Tensor:
    """A floating-point tensor in the type of another one, which an operation with wider ones has taken it from."""
    return tensor.to(like.dtype) if like.is_floating_point() and tensor.dtype != like.dtype else tensor
