"""Columns of a table as tensors."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch

from selftune.errors import SettingError
from selftune.shapes import Float, Int, Tensor

MISSING = "<missing>"
"""The category of values that are missing, or that the train split does not have."""


class Numbers(NamedTuple):
    """A column without missing values, and ones where some were; None if there were none."""

    values: Float[Tensor, "rows"]
    missing: Float[Tensor, "rows"] | None


def is_categorical(column: Any) -> bool:
    """Whether a column of ``pyarrow`` holds texts, truth values or a dictionary."""
    from pyarrow import types

    kind = column.type
    return bool(
        types.is_string(kind) or types.is_large_string(kind) or types.is_boolean(kind) or types.is_dictionary(kind)
    )


def is_whole(column: Any) -> bool:
    """Whether a column holds whole numbers."""
    from pyarrow import types

    return bool(types.is_integer(column.type))


def check_type(column: Any, name: str, where: str) -> None:
    """Refuses columns that are neither numbers nor categories, such as dates and lists.

    Raises:
        SettingError: under the key ``path``.
    """
    from pyarrow import types

    if not (is_categorical(column) or is_whole(column) or types.is_floating(column.type)):
        raise SettingError(
            "path",
            f"{where}: the column {name!r} holds {column.type}, neither numbers nor categories; convert it, or"
            " ignore it",
        )


def numbers_of(column: Any, name: str, train: Int[Tensor, "examples"], where: str) -> Numbers:
    """A column of numbers; missing ones become the mean of the training rows.

    Raises:
        SettingError: under the key ``path``, if a number is infinite, or the training rows have none.
    """
    values = torch.from_numpy(column.to_numpy(zero_copy_only=False).astype(np.float64))
    infinite = values.isinf().nonzero()
    if len(infinite):
        raise SettingError(
            "path", f"{where}, row {int(infinite[0])}: the column {name!r} is infinite; write a number or nothing"
        )
    missing = values.isnan()
    if not missing.any():
        return Numbers(values.float(), None)
    seen = values[train][~missing[train]]
    if not len(seen):
        raise SettingError("path", f"{where}: the column {name!r} has no value in the training rows; ignore it")
    return Numbers(torch.where(missing, seen.mean(), values).float(), missing.float())


def coded(column: Any, train: Int[Tensor, "examples"]) -> tuple[Int[Tensor, "rows"], tuple[str, ...]]:
    """A column of categories by number, and the categories' names: those of the training rows, sorted.

    What is missing, or is not in the training rows, is one more category where it occurs.
    """
    values = [None if value != value else value for value in column.to_pylist()]
    found = sorted({values[row] for row in train.tolist()} - {None})
    numbers = {value: number for number, value in enumerate(found)}
    codes = torch.tensor([numbers.get(value, len(found)) for value in values])
    names = tuple(map(str, found))
    return codes, (*names, MISSING) if (codes == len(found)).any() else names
