"""The examples of a data set, fetched by request: in this process, or ahead of time by torch's workers."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

import torch
from torch.utils.data import DataLoader, Dataset, default_collate

from selftune.data.global_generators import seeded
from selftune.data.nested import mapped
from selftune.data.released import Released
from selftune.shapes import Tensor


class Request(NamedTuple):
    """A batch that is asked for: its examples by position, and the seed of what the data set draws for them."""

    seed: int
    positions: list[int]


class _Fetching(Dataset[Any]):
    """A data set whose items are whole batches; it runs where the data loader wants it to."""

    def __init__(self, dataset: Any, collate: Callable[[list[Any]], Any] | None) -> None:
        self.dataset = dataset
        self.collate = collate or default_collate

    def __getitem__(self, request: Request) -> Any:
        with seeded(request.seed):
            return self.collate(self._items(request.positions))

    def _items(self, positions: list[int]) -> list[Any]:
        at_once = getattr(self.dataset, "__getitems__", None)  # torch's own way to be asked for several
        if callable(at_once):
            return list(at_once(positions))
        return [self.dataset[position] for position in positions]


def fetched(
    dataset: Any,
    requests: Iterable[Request],
    collate: Callable[[list[Any]], Any] | None = None,
    workers: int = 0,
    pinned: bool = False,
) -> Iterator[Any]:
    """The batches of requests, in their order.

    Args:
        dataset: map-style: items by position.
        requests: read some way ahead of what is given out where there are workers.
        collate: makes a batch of items; torch's own where it is None.
        workers: processes that load ahead; 0 loads in this one when a batch is due.
        pinned: whether batches are put into pinned memory, from which they are copied to a GPU without waiting.

    >>> data = [(torch.tensor(float(n)), n) for n in range(5)]
    >>> next(fetched(data, [Request(0, [4, 2])]))
    [tensor([4., 2.]), tensor([4, 2])]
    """
    fetching = _Fetching(dataset, collate)
    if not workers:
        batches = (fetching[request] for request in requests)
        return (mapped(Tensor.pin_memory, batch) for batch in batches) if pinned else batches
    loader = DataLoader(
        fetching,
        batch_size=None,
        sampler=_Requests(requests),
        num_workers=workers,
        collate_fn=_as_it_is,
        pin_memory=pinned,
        generator=torch.Generator(),  # or else torch's global one would be drawn from
    )
    return Released(iter(loader))


class _Requests:
    """A sampler in torch's sense."""

    def __init__(self, requests: Iterable[Request]) -> None:
        self.requests = requests

    def __iter__(self) -> Iterator[Request]:
        return iter(self.requests)


def _as_it_is(batch: Any) -> Any:
    return batch


def all_in_order(examples: int, size: int, seed: int) -> Iterator[Request]:
    """Requests for all examples once, in their own order.

    >>> [request.positions for request in all_in_order(5, 2, 0)]
    [[0, 1], [2, 3], [4]]
    """
    for start in range(0, examples, size):
        yield Request(seed + start, list(range(start, min(start + size, examples))))
