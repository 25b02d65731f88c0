"""Batches as networks take them: tensors, alone or in tuples, lists and mappings, one inside the other."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping, MutableMapping
from typing import Any

import torch
from torch.nn.utils.rnn import PackedSequence

from selftune.errors import SettingError
from selftune.shapes import Int, Tensor

_WHOLE = (Tensor, PackedSequence)  # a packed sequence is a tuple of tensors that belong together


def mapped(function: Callable[[Tensor], Any], batch: Any) -> Any:
    """The same structure, with ``function`` of every tensor in place of it.

    Tuples (also named ones), lists and mappings (also those that only behave like a dictionary, such as what
    tokenizers give) come back as what they were; whatever else stands in a batch, such as text, is left alone.

    >>> mapped(lambda tensor: tensor + 1, {"pair": (torch.tensor(1), "a"), "rest": [torch.tensor(2)]})
    {'pair': (tensor(2), 'a'), 'rest': [tensor(3)]}
    """
    return _rebuilt(lambda leaf: function(leaf) if isinstance(leaf, Tensor) else leaf, batch)


def tensors_in(batch: Any) -> Iterator[Tensor]:
    """The tensors of a batch, in the order in which they stand there.

    >>> [tensor.item() for tensor in tensors_in({"a": (torch.tensor(1), "b"), "c": [torch.tensor(2)]})]
    [1, 2]
    """
    return (leaf for leaf in leaves_of(batch) if isinstance(leaf, Tensor))


def leaves_of(batch: Any) -> Iterator[Any]:
    """What stands in a batch that is no tuple, list or mapping, in order.

    >>> list(leaves_of({"a": (1, "b"), "c": [2]}))
    [1, 'b', 2]
    """
    if isinstance(batch, Mapping):
        for value in batch.values():
            yield from leaves_of(value)
    elif isinstance(batch, tuple | list) and not isinstance(batch, PackedSequence):
        for part in batch:
            yield from leaves_of(part)
    else:
        yield batch


def size_of(batch: Any) -> int:
    """How many examples a batch holds: the length of its first tensor that has an axis.

    Raises:
        SettingError: if it holds no such tensor.

    >>> size_of({"name": "digits", "inputs": torch.zeros(8, 3)})
    8
    """
    if isinstance(batch, Tensor) and batch.ndim:  # of most batches; this is asked for several times a step
        return len(batch)
    for tensor in tensors_in(batch):
        if tensor.ndim:
            return len(tensor)
    raise SettingError(
        "batch",
        f"must hold a tensor with the examples along its first axis, but is a {type(batch).__name__} without",
    )


def rows_of(batch: Any, index: Int[Tensor, "rows"]) -> Any:
    """Some of the examples of a batch.

    Rows are taken of the tensors with as many rows as the batch has examples; others belong to all of them alike.

    Raises:
        SettingError: as ``size_of``.

    >>> rows_of((torch.tensor([5, 6, 7]), torch.tensor(0.5)), torch.tensor([2, 0]))
    (tensor([7, 5]), tensor(0.5000))
    """
    size = size_of(batch)

    def rows(tensor: Tensor) -> Tensor:
        return tensor.index_select(0, index) if tensor.ndim and len(tensor) == size else tensor

    return mapped(rows, batch)


def first_of(batch: Any, examples: int) -> Any:
    """The first examples of a batch; all of it where it has no more."""
    return batch if size_of(batch) <= examples else cut(batch, 0, examples)


def cut(batch: Any, start: int, end: int) -> Any:
    """The examples from ``start`` to before ``end``, as views."""
    size = size_of(batch)
    return mapped(lambda tensor: tensor[start:end] if tensor.ndim and len(tensor) == size else tensor, batch)


def part_of(batch: Any, part: slice | None, rows: int) -> Any:
    """A part of a batch, of the tensors that have so many rows; all of it for None.

    >>> part_of((torch.tensor([5, 6, 7]), torch.tensor([0.5])), slice(1, 3), 3)
    (tensor([6, 7]), tensor([0.5000]))
    """
    if part is None:
        return batch
    return mapped(lambda tensor: tensor[part] if tensor.ndim and len(tensor) == rows else tensor, batch)


def moved(batch: Any, device: torch.device) -> Any:
    """The same batch on a device; to a GPU from pinned memory without waiting for the copy.

    Beside tensors, what has a method ``to(device)`` is moved by it, such as packed sequences.

    >>> moved([torch.zeros(2), "text"], torch.device("meta"))
    [tensor(..., device='meta', size=(2,)), 'text']
    """
    if _all_there(batch, device):
        return batch
    waits = device.type != "cuda"

    def to_device(leaf: Any) -> Any:
        if isinstance(leaf, Tensor):
            return leaf if leaf.device == device else leaf.to(device, non_blocking=not waits)
        return leaf.to(device) if callable(getattr(leaf, "to", None)) else leaf

    return _rebuilt(to_device, batch)


def _all_there(batch: Any, device: torch.device) -> bool:
    """Whether a plain batch is where it is wanted, as in every step of a loop that moves its batches itself."""
    if type(batch) not in (tuple, list, dict):
        return False
    parts = batch.values() if type(batch) is dict else batch
    return all(isinstance(part, Tensor) and part.device == device for part in parts)


def _rebuilt(leaf: Callable[[Any], Any], batch: Any) -> Any:
    """The same structure with ``leaf`` of whatever is no tuple, list or mapping."""
    if isinstance(batch, _WHOLE):
        return leaf(batch)
    if isinstance(batch, tuple | list):
        parts = [_rebuilt(leaf, part) for part in batch]
        return type(batch)(*parts) if hasattr(batch, "_fields") else type(batch)(parts)
    if type(batch) is dict or isinstance(batch, Mapping):
        values = {key: _rebuilt(leaf, value) for key, value in batch.items()}
        return like(batch, values)
    return leaf(batch)


def like(batch: Mapping[Any, Any], values: dict[Any, Any]) -> Any:
    """A mapping of the same class, with whatever else that holds; a dictionary where it cannot be written to."""
    if type(batch) is dict or not isinstance(batch, MutableMapping):
        return values
    new = copy.copy(batch)
    for key, value in values.items():
        new[key] = value
    return new
