"""Splits that are read from data sets and loaders, beside those that are held as tensors."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence, Set
from dataclasses import replace
from typing import Any

from selftune.data.kinds import as_read, examples_of, is_dataset, is_held
from selftune.data.loading import Loading
from selftune.data.nested import size_of
from selftune.data.overlap import equal_examples, overlap
from selftune.data.tensors import SPLITS
from selftune.errors import SettingError
from selftune.lower_level.optimization import Optimization
from selftune.shapes import Tensor


class Splits(dict[str, dict[str, Tensor]]):
    """The splits that are held as tensors, by name; asked for another one, it says what is wrong.

    >>> Splits()["train"]
    Traceback (most recent call last):
    selftune.errors.SettingError: train: must be tensors in memory here, not a data set or a loader, ...
    """

    def __missing__(self, name: str) -> dict[str, Tensor]:
        raise SettingError(
            name,
            "must be tensors in memory here, not a data set or a loader, because all examples are looked at; give"
            " tensors, or leave out what needs them",
        )


def taken_apart(
    given: Mapping[str, Any], batch_size: int, loading: Loading
) -> tuple[dict[str, Any], dict[str, Any]]:
    """What is held as tensors and what is read, by split.

    Raises:
        SettingError: as ``as_read``.
    """
    read = {name: data for name, data in given.items() if not is_held(data)}
    held = {name: data for name, data in given.items() if name not in read}
    return held, {name: as_read(name, data, batch_size, loading) for name, data in read.items()}


def check_settings_of_read(
    read: Mapping[str, Any],
    extra: object,
    balanced_by: object,
    stages: Sequence[object],
    validation_batch_size: int | None,
    loading: Loading,
) -> None:
    """Refuses settings that have no meaning for splits that are read.

    Raises:
        SettingError: with the name of the setting.
    """
    train, validation = read.get("train"), read.get("validation")
    if loading != Loading() and not any(map(is_dataset, read.values())):
        raise SettingError("loading", "is for a Dataset, and none is given; set up the loader itself")
    if read and extra:
        raise SettingError(
            "extra", "is for tensors in memory; let a data set give mappings with inputs, labels and what is extra"
        )
    if train is not None and balanced_by is not None:
        raise SettingError("balanced_by", "is for training data in memory; give a loader whose sampler does it")
    if train is not None and stages and not is_dataset(train):
        raise SettingError("stages", "are of examples by their position, which a loader does not tell")
    if validation_batch_size is None or validation is None:
        return
    if not is_dataset(validation):
        raise SettingError(
            "validation_batch_size", "is for tensors and a Dataset; a loader makes its batches, so leave it out"
        )
    if validation_batch_size > len(validation):
        raise SettingError(
            "validation_batch_size",
            f"is {validation_batch_size}, but the validation split has {len(validation)} examples; lower it",
        )


def sized(optimization: Optimization, read: Mapping[str, Any], first: Mapping[str, Any]) -> Optimization:
    """The optimization with batches as large as a training loader makes them, if there is one.

    Args:
        read: the splits that are read.
        first: their first batches.

    Raises:
        SettingError: if another size was asked for. The usual one need not have been.
    """
    if "train" not in read or is_dataset(read["train"]):
        return optimization
    size, asked = size_of(first["train"]), optimization.batch_size
    if asked not in (size, Optimization().batch_size):
        raise SettingError(
            "batch_size", f"is {asked}, but the training loader makes batches of {size}; leave it out"
        )
    return replace(optimization, batch_size=size)


def warn_of_overlap(given: Mapping[str, Any], first: Mapping[str, Any]) -> None:
    """Warns where splits that judge are seen to share examples with training data.

    Args:
        given: by split, as they came.
        first: first batches of the splits that are read; without them, nothing is compared.
    """
    for name in SPLITS[1:]:
        if name not in given or not {"train", name} & set(first):
            continue
        shared = overlap(given["train"], given[name])
        if not shared and {"train", name} <= set(first):
            equal = equal_examples(first["train"], first[name])
            shared = f"{equal} example{'s' if equal > 1 else ''} of their first batches" if equal else ""
        if shared:
            warnings.warn(
                f"{name}: shares {shared} with the training data, so that it does not judge what is learnt; keep"
                " them apart",
                stacklevel=4,
            )


def without_positions(provides: Set[str], train: Any) -> frozenset[str]:
    """What is provided where training data may tell neither positions of examples nor their number.

    Args:
        train: the training data, if they are read.
    """
    missing: set[str] = set()
    if train is not None and not is_dataset(train):
        missing = {"index"} if examples_of(train) is not None else {"index", "examples"}
    return frozenset(provides - missing)
