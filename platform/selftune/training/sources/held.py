"""A data set as a whole in the memory of the device."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from selftune.data.examples import Request, all_in_order, fetched
from selftune.data.nested import leaves_of, mapped, tensors_in
from selftune.errors import SettingError

_CHUNK = 256  # examples that are read at a time
_PROBED = 4  # examples that tell how large all are


def held(
    dataset: Any,
    memory: int,
    seed: int,
    device: torch.device,
    collate: Callable[[list[Any]], Any] | None = None,
    workers: int = 0,
) -> Any:
    """All examples of a data set as one batch on the device; None if they do not fit.

    Args:
        memory: bytes that they may take; how many they need is seen from the first ones.
        seed: of what the data set draws.
        collate, workers: as for a data loader.

    Raises:
        SettingError: if examples cannot be held as rows of tensors, because their shapes differ.

    >>> data = [(torch.tensor(float(n)), n) for n in range(5)]
    >>> held(data, 1000, 0, torch.device("cpu"))
    [tensor([0., 1., 2., 3., 4.]), tensor([0, 1, 2, 3, 4])]
    >>> held(data, 50, 0, torch.device("cpu")) is None
    True
    """
    examples = len(dataset)
    probed = min(_PROBED, examples)
    first = next(fetched(dataset, [Request(seed, list(range(probed)))], collate))
    needed = sum(tensor.numel() * tensor.element_size() for tensor in tensors_in(first)) * examples / probed
    if needed > memory:
        return None
    if not all(isinstance(leaf, torch.Tensor) for leaf in leaves_of(first)):
        raise SettingError(
            "loading.memory", "holds tensors only, but examples hold something else; leave memory= out"
        )
    whole = mapped(lambda tensor: _room_for(tensor, examples, probed, device), first)
    start = 0
    for batch in fetched(dataset, all_in_order(examples, _CHUNK, seed), collate, workers):
        size = min(_CHUNK, examples - start)
        for room, part in zip(tensors_in(whole), tensors_in(batch), strict=True):
            if part.shape != (size, *room.shape[1:]):
                raise _of_different_shapes(part.shape[1:], room.shape[1:])
            room[start : start + size] = part
        start += size
    return whole


def _room_for(tensor: torch.Tensor, examples: int, probed: int, device: torch.device) -> torch.Tensor:
    if not tensor.ndim or len(tensor) != probed:
        raise _of_different_shapes(tensor.shape, (probed, "..."))
    return torch.empty(examples, *tensor.shape[1:], dtype=tensor.dtype, device=device)


def _of_different_shapes(one: Any, other: Any) -> SettingError:
    return SettingError(
        "loading.memory",
        f"holds a data set whose examples have one shape, but here are {tuple(one)} and {tuple(other)}; leave"
        " memory= out, and batches are loaded when they are due",
    )
