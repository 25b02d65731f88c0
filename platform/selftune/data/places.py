"""Where something stands in a nested batch."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping
from typing import Any

from selftune.data.nested import like
from selftune.shapes import Tensor

Place = tuple[Hashable, ...]
"""Keys and positions that lead from a batch to one of its tensors; empty where the batch is the tensor."""


def places_in(batch: Any) -> Iterator[tuple[Place, Tensor]]:
    """The tensors of a batch, each with its place.

    >>> import torch
    >>> [place for place, _ in places_in({"pair": (torch.zeros(1), torch.zeros(1)), "text": "a"})]
    [('pair', 0), ('pair', 1)]
    """
    if isinstance(batch, Tensor):
        yield (), batch
        return
    items: Any = ()
    if isinstance(batch, Mapping):
        items = batch.items()
    elif isinstance(batch, tuple | list):
        items = enumerate(batch)
    for key, part in items:
        for place, tensor in places_in(part):
            yield (key, *place), tensor


def at(batch: Any, place: Place) -> Any:
    """What stands there.

    >>> at({"pair": (1, 2)}, ("pair", 1))
    2
    """
    for key in place:
        batch = batch[key]
    return batch


def put(batch: Any, place: Place, value: Any) -> Any:
    """The same batch with something else there.

    >>> batch = {"pair": (1, 2), "rest": 3}
    >>> put(batch, ("pair", 1), 5), batch
    ({'pair': (1, 5), 'rest': 3}, {'pair': (1, 2), 'rest': 3})
    """
    if not place:
        return value
    key, *rest = place
    if isinstance(batch, Mapping):
        return like(batch, {**batch, key: put(batch[key], tuple(rest), value)})
    parts = [put(part, tuple(rest), value) if position == key else part for position, part in enumerate(batch)]
    return type(batch)(*parts) if hasattr(batch, "_fields") else type(batch)(parts)


def shown_place(place: Place) -> str:
    """A place as code names it.

    >>> shown_place(("pair", 1))
    "batch['pair'][1]"
    """
    return "batch" + "".join(f"[{key!r}]" for key in place)
