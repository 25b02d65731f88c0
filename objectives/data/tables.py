"""Tables (CSV, Parquet) as tensors: numbers, categories and a target."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from selftune.objectives.data.classes import check_every_class
from selftune.objectives.data.data_files import AnyPath, check_column, existing
from selftune.objectives.data.splits import Splits, completed, named_splits
from selftune.objectives.data.table_columns import check_type, coded, is_categorical, is_whole, numbers_of
from selftune.objectives.data.table_files import LAYOUT, SPLIT, read_columns

from selftune.errors import SettingError
from selftune.shapes import Float, Int, Tensor

FEW = 20
"""Whole numbers as a target are classes if there are at most this many."""

Kind = Literal["classification", "regression"]


@dataclass(frozen=True)
class Table:
    """Rows of a table.

    Attributes:
        numbers: columns of numbers in the table's own units; then, for each with missing values, a column of zeros
            and ones that says where.
        categories: columns of categories by number.
        levels: names of the categories of every such column.
        target: what is predicted: the number of a class, or a number.
        columns: names of the columns of ``numbers``, then of ``categories``.
        classes: names of the classes; None for regression.
        splits: positions of the train, validation and test rows, ascending.
    """

    numbers: Float[Tensor, "rows numbers"]
    categories: Int[Tensor, "rows categories"]
    levels: tuple[tuple[str, ...], ...]
    target: Int[Tensor, "rows"] | Float[Tensor, "rows"]
    columns: tuple[str, ...]
    classes: tuple[str, ...] | None
    splits: Splits

    @property
    def sizes(self) -> tuple[int, ...]:
        """The number of categories of every column of ``categories``."""
        return tuple(map(len, self.levels))


def read_table(
    path: AnyPath,
    target: str,
    categorical: Sequence[str] | None = None,
    kind: Kind | None = None,
    ignore: Sequence[str] = (),
    split: Mapping[str, float] | None = None,
    seed: int = 0,
) -> Table:
    """Reads a table.

    Texts, truth values and dictionaries are categories. A missing number becomes the mean of its column in the
    train split, and a further column says where that happened. A missing category is a category of its own, and so
    is one that the train split does not have. A list of fixed size, such as a signal, becomes a column for every
    place. In CSV files an empty field, ``NA``, ``NaN``, ``null`` and ``?`` are
    missing values.

    Args:
        path: a CSV file whose first line names the columns (separated by commas, semicolons or tabs), or Parquet:
            a file, or a folder of files whose names may say their split.
        target: the column to predict.
        categorical: columns of numbers that are categories, too.
        kind: what the target is; None decides: texts, truth values and at most 20 different whole numbers are
            classes, other numbers are for regression.
        ignore: columns to leave out.
        split: fractions of the training rows that are held out where the table has no column ``split`` with the
            values train, validation and test.
        seed: decides which rows these are. Classes are held out in equal shares.

    Raises:
        SettingError: under the key ``path``, ``target``, ``categorical``, ``kind``, ``ignore`` or ``split``; the
            message names the file, and where it can the row and the column.

    >>> from tempfile import mkdtemp
    >>> from pathlib import Path
    >>> file = Path(mkdtemp()) / "houses.csv"
    >>> rows = [f"{40 + 3 * n},{'brick' if n % 2 else 'wood'},{100 + 7.5 * n}" for n in range(10)]
    >>> _ = file.write_text("area,walls,price\\n" + "\\n".join(rows))
    >>> table = read_table(file, target="price")
    >>> table.columns, table.numbers.shape, table.sizes, table.target.dtype
    (('area', 'walls'), torch.Size([10, 1]), (2,), torch.float32)
    """
    found = existing(path, LAYOUT, f" --target {target}")
    return table_of(read_columns(found), found, target, categorical or (), kind, ignore, split, seed)


def table_of(
    rows: Any,
    found: Path,
    target: str,
    categorical: Sequence[str] = (),
    kind: Kind | None = None,
    ignore: Sequence[str] = (),
    split: Mapping[str, float] | None = None,
    seed: int = 0,
) -> Table:
    """The same of a ``pyarrow.Table`` that was read from the file ``found``."""
    known = list(rows.column_names)
    for key, names in (("target", [target]), ("categorical", categorical), ("ignore", ignore)):
        for name in names:
            check_column(key, name, known, found)
            if key != "target" and name == target:
                raise SettingError(key, f"{name!r} is the target; leave it out here")
            if key != "ignore" and name == SPLIT:
                raise SettingError(
                    key, f"{found}: the column {SPLIT!r} says what is for training; rename it if not"
                )
    for name in known:
        if name not in ignore:
            check_type(rows[name], name, str(found))
    given = named_splits(rows[SPLIT].to_pylist(), str(found)) if SPLIT in known and SPLIT not in ignore else {}
    values, classes = _target(rows[target], target, kind, str(found))
    if classes is not None:
        check_every_class(values, classes, given.get("train"), str(found), "row")
    splits = completed(given, len(rows), split, seed, None if classes is None else values)
    inputs = [name for name in known if name not in {target, SPLIT, *ignore}]
    if not inputs:
        raise SettingError("path", f"{found} has no column beside the target {target!r}; bring some")
    sorts = {name: name in categorical or is_categorical(rows[name]) for name in inputs}
    numbers = {
        name: numbers_of(rows[name], name, splits["train"], str(found)) for name in inputs if not sorts[name]
    }
    codes = {name: coded(rows[name], splits["train"]) for name in inputs if sorts[name]}
    wide = [column.values for column in numbers.values()]
    wide += [column.missing for column in numbers.values() if column.missing is not None]
    indicators = [f"{name} is missing" for name, column in numbers.items() if column.missing is not None]
    return Table(
        torch.stack(wide, dim=1) if wide else torch.zeros(len(rows), 0),
        torch.stack([code for code, _ in codes.values()], dim=1) if codes else torch.zeros(len(rows), 0).long(),
        tuple(levels for _, levels in codes.values()),
        values,
        (*numbers, *indicators, *codes),
        classes,
        splits,
    )


def _target(column: Any, name: str, kind: Kind | None, where: str) -> tuple[Tensor, tuple[str, ...] | None]:
    """Class numbers and the names of the classes, or numbers and None."""
    if kind not in (None, "classification", "regression"):
        raise SettingError("kind", f"must be classification or regression, got {kind!r}")
    values = column.to_pylist()
    for row, value in enumerate(values):
        if value is None or value != value or value in (float("inf"), float("-inf")):
            raise SettingError("target", f"{where}, row {row}: the target {name!r} is {value}; remove the row")
    if kind is None:
        few = is_whole(column) and len({*values}) <= FEW
        kind = "classification" if few or is_categorical(column) else "regression"
    if kind == "regression":
        if is_categorical(column):
            raise SettingError("kind", f"{where}: the target {name!r} holds {column.type}, which are no numbers")
        return torch.tensor(values, dtype=torch.float32), None
    if any(isinstance(value, float) and not value.is_integer() for value in values):
        raise SettingError("kind", f"{where}: the target {name!r} holds fractions, so they are no classes")
    found = sorted({*values})
    numbers = {value: number for number, value in enumerate(found)}
    labels = torch.tensor([numbers[value] for value in values])
    return labels, tuple(str(int(value)) if isinstance(value, float) else str(value) for value in found)
