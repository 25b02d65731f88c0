"""Whether validation data share examples with training data, as far as one can see without reading all of them."""

from __future__ import annotations

from typing import Any

import torch
from torch.utils.data import Subset

from selftune.data.nested import size_of, tensors_in


def overlap(train: Any, other: Any) -> str:
    """What two splits share, in words; empty where nothing is seen.

    They share all where they are one object, or loaders of one data set; subsets of one data set are compared by
    their positions.

    Args:
        train, other: data sets, loaders, or tensors.

    >>> data = list(range(10))
    >>> overlap(Subset(data, [0, 1, 2]), Subset(data, [2, 3]))
    '1 example'
    >>> overlap(Subset(data, [0, 1, 2]), Subset(data, [3, 4]))
    ''
    """
    train, other = _source(train), _source(other)
    if train is other:
        return "all examples"
    (base, positions), (other_base, other_positions) = _positions(train), _positions(other)
    if base is not other_base or not hasattr(base, "__len__"):
        return ""
    everything = range(len(base))
    first, second = (everything if some is None else some for some in (positions, other_positions))
    shared = len(set(first) & set(second))
    return f"{shared} example{'s' if shared > 1 else ''}" if shared else ""


def equal_examples(first: Any, other: Any) -> int:
    """How many examples of the one batch are equal to one of the other, tensor by tensor.

    >>> equal_examples(torch.tensor([[1.0], [2.0]]), torch.tensor([[2.0], [3.0], [4.0]]))
    1
    """
    known = set(digests(first))
    return sum(digest in known for digest in digests(other))


def digests(batch: Any) -> list[tuple[bytes, ...]]:
    """What tells one example of a batch from another: its bytes, tensor by tensor."""
    size = size_of(batch)
    whole = [t.detach().cpu().contiguous() for t in tensors_in(batch) if t.ndim and len(t) == size]
    rows = [tensor.reshape(size, -1).view(torch.uint8).numpy() for tensor in whole if tensor.numel()]
    return [tuple(row[number].tobytes() for row in rows) for number in range(size)]


def _source(data: Any) -> Any:
    """What a loader reads from."""
    return getattr(data, "dataset", data) if hasattr(data, "batch_sampler") else data


def _positions(data: Any) -> tuple[Any, list[int] | None]:
    """The data set that a subset is of, and its positions there; None for all of them."""
    positions: list[int] | None = None
    while isinstance(data, Subset):
        own = [int(position) for position in data.indices]
        positions = own if positions is None else [own[position] for position in positions]
        data = data.dataset
    return data, positions
