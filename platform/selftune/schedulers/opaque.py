"""What travels between driver and trainers without being seen by those who print, log or save results."""

from __future__ import annotations

import io
import pickle
from collections.abc import Callable
from typing import Any

import torch
from ray.cloudpickle import CloudPickler

from selftune.shapes import Tensor

_SMALL = 4096  # bytes of a tensor; torch takes a tenth of a millisecond for each, however small


class _IsLarge(Exception):
    """A tensor is better left to torch."""


class _Pickler(CloudPickler):
    """Pickles small tensors as their bytes."""

    def reducer_override(self, entry: Any) -> Any:
        if type(entry) is Tensor:
            if entry.nbytes > _SMALL:
                raise _IsLarge
            if entry.device.type == "cpu" and entry.dtype in _TYPES and not entry.requires_grad:
                return _tensor, (entry.contiguous().numpy().tobytes(), entry.dtype, tuple(entry.shape))
        return super().reducer_override(entry)  # type: ignore[no-untyped-call]


_TYPES = (torch.float32, torch.float64, torch.int64, torch.bool)


def _tensor(content: bytes, dtype: torch.dtype, shape: tuple[int, ...]) -> Tensor:
    if not content:
        return torch.empty(shape, dtype=dtype)
    return torch.frombuffer(bytearray(content), dtype=dtype).reshape(shape)


def _opened(content: bytes) -> Opaque:
    return Opaque(pickle.loads(content))


class Opaque:
    """Holds anything, unseen; its ``repr`` is short because Tune formats every result, also when nobody reads it.

    >>> opaque = Opaque([0.0] * 1000)
    >>> opaque
    Opaque()
    >>> len(opaque.content)
    1000
    """

    __slots__ = ("content",)

    def __init__(self, content: Any) -> None:
        self.content = content

    def __repr__(self) -> str:
        return "Opaque()"

    def __reduce__(self) -> tuple[Callable[..., Opaque], tuple[Any]]:
        with io.BytesIO() as file:
            try:
                _Pickler(file, pickle.HIGHEST_PROTOCOL).dump(self.content)  # type: ignore[no-untyped-call]
            except _IsLarge:
                return Opaque, (self.content,)
            return _opened, (file.getvalue(),)

    def empty(self) -> None:
        """Lets go of the content, when it has been read and it is about to be saved."""
        self.content = None
