"""What people bring as data that is no pair of tensors: a data set, a stream, or a ready loader."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sized
from typing import Any

import numpy as np
from torch.utils.data import DataLoader, IterableDataset

from selftune.data.examples import Request, fetched
from selftune.data.global_generators import seeded
from selftune.data.loading import Loading
from selftune.data.released import Released
from selftune.errors import SettingError
from selftune.fields import shown
from selftune.shapes import Tensor

_HELD = (tuple, list, Mapping, Tensor, np.ndarray, str)


def is_held(given: object) -> bool:
    """Whether data come as tensors, or as what is mistaken for them, not as a data set or a loader."""
    return isinstance(given, _HELD) or not (is_dataset(given) or isinstance(given, Iterable))


def is_dataset(given: object) -> bool:
    """Whether data are map-style: items by position, and a length.

    >>> from torch.utils.data import TensorDataset
    >>> is_dataset(TensorDataset()), is_dataset(DataLoader([1]))
    (True, False)
    """
    if isinstance(given, (*_HELD, IterableDataset)):
        return False
    return hasattr(given, "__getitem__") and hasattr(given, "__len__")


def gives_batches(data: object) -> bool:
    """Whether data are a loader, or another iterable of batches, as a split of an objective."""
    return data is not None and not is_held(data) and not is_dataset(data)


def as_read(key: str, given: Any, batch_size: int, loading: Loading) -> Any:
    """A data set or a loader, as it is read from; a stream of examples becomes a loader of batches.

    Raises:
        SettingError: if it can be gone through only once, or is an empty data set.
    """
    if is_dataset(given):
        if not len(given):
            raise SettingError(key, f"the {key} split is empty; give it at least one example")
        if key == "train" and len(given) < batch_size:
            raise SettingError(
                "batch_size",
                f"the train split has {len(given)} examples, fewer than a batch of {batch_size}; lower batch_size",
            )
        return given
    if isinstance(given, Iterator):
        raise SettingError(
            key, f"is {shown(given)}, which can be gone through only once; give a DataLoader, or a Dataset"
        )
    if isinstance(given, IterableDataset):
        return DataLoader(given, batch_size, num_workers=loading.workers, collate_fn=loading.collate)
    return given


def examples_of(data: Any) -> int | None:
    """How many examples a data set or a loader has; None where nobody knows."""
    dataset = data if is_dataset(data) else getattr(data, "dataset", None)
    return len(dataset) if isinstance(dataset, Sized) else None


def first_batch(key: str, data: Any, size: int, collate: Callable[[list[Any]], Any] | None = None) -> Any:
    """The first examples of a data set, or the first batch of a loader; no global generator notices.

    Raises:
        SettingError: if it cannot be read, or gives nothing.
    """
    try:
        if is_dataset(data):
            batches = fetched(data, [Request(0, list(range(min(size, len(data)))))], collate)
        else:
            with seeded(0):
                batches = Released(iter(data))
        with seeded(0):
            batch = next(batches, None)
    except Exception as error:  # whatever a user's data set raises
        line = str(error).partition("\n")[0] or type(error).__name__
        raise SettingError(key, f"cannot be read: {line}") from error
    if batch is None:
        raise SettingError(key, "gives no batch; give one that has some")
    return batch
