"""CSV and Parquet files as columns."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from selftune.objectives.data.data_files import is_parquet, opened_parquet, reason, rows_of
from selftune.objectives.data.parquet_shards import SHARDS, is_sharded, shards_of

from selftune.errors import SettingError

LAYOUT = "a CSV file whose first line names the columns"
SPLIT = "split"
"""The column that says which rows are for training, validation and the test."""
_SEPARATORS = ",;\t"


def read_columns(path: Path) -> Any:
    """A ``pyarrow.Table`` of a CSV or Parquet file, or of a folder of Parquet files.

    Where the names of files say their splits, these become the column ``split``.

    Raises:
        SettingError: under the key ``path``, if it is neither, has no rows, two columns of one name, or its files
            have other columns than the first.
    """
    if path.is_dir() and not is_sharded(path):
        raise SettingError("path", f"{path} is a folder; give {LAYOUT}, or Parquet, or {SHARDS}")
    rows = _parquet(path) if path.is_dir() or is_parquet(path) else _csv(path)
    names = rows.column_names
    double = next((name for name in names if names.count(name) > 1), None)
    if double is not None:
        raise SettingError("path", f"{path} has two columns named {double!r}; rename one")
    if not len(rows):
        raise SettingError("path", f"{path} has no rows; bring some")
    return _unrolled(rows)


def _parquet(path: Path) -> Any:
    import pyarrow

    tables: list[Any] = []
    for shard in shards_of(path):
        file = opened_parquet(shard.path)
        rows = rows_of(file, shard.path, file.schema_arrow.names).replace_schema_metadata()
        if shard.split is not None:
            if SPLIT in rows.column_names:
                raise SettingError(
                    "path",
                    f"{shard.path} says its split by its name and by a column {SPLIT!r}; rename one of them",
                )
            rows = rows.append_column(SPLIT, pyarrow.array([shard.split] * len(rows), pyarrow.string()))
        if tables and rows.schema != tables[0].schema:
            first = shards_of(path)[0].path.name
            raise SettingError("path", f"{shard.path} has other columns than {first}; make them alike")
        tables.append(rows)
    return pyarrow.concat_tables(tables)


def _unrolled(rows: Any) -> Any:
    """The same with a column ``x.0``, ``x.1``, ... for every place of lists ``x`` of fixed size."""
    import pyarrow
    import pyarrow.compute
    from pyarrow import types

    columns = {}
    for name in rows.column_names:
        kind = rows.schema.field(name).type
        if not types.is_fixed_size_list(kind):
            columns[name] = rows[name]
            continue
        for place in range(kind.list_size):
            columns[f"{name}.{place}"] = pyarrow.compute.list_element(rows[name], place)
    return pyarrow.table(columns)


def _csv(path: Path) -> Any:
    import pyarrow
    from pyarrow import csv

    options = csv.ConvertOptions(strings_can_be_null=True)
    options.null_values = [*options.null_values, "?"]
    try:
        with pyarrow.input_stream(path) as stream:  # unpacks .gz and its like
            first = stream.read(1 << 16).decode("utf-8-sig", errors="replace").partition("\n")[0]
        separator = max(_SEPARATORS, key=first.count)
        parsing = csv.ParseOptions(delimiter=separator, newlines_in_values=True)
        rows = csv.read_csv(path, parse_options=parsing, convert_options=options)
        names = rows.column_names
    except (pyarrow.ArrowException, OSError, UnicodeDecodeError) as error:
        raise SettingError("path", f"{path} is no table: {reason(error)}; give {LAYOUT}, or Parquet") from error
    if any(_is_number(name) for name in names):
        raise SettingError("path", f"{path}: the first line holds numbers; write the names of the columns there")
    return rows


def _is_number(name: str) -> bool:
    try:
        float(name)
    except ValueError:
        return False
    return True
