"""An append-only table that survives being killed.

A row is one message appended to an Arrow stream, ``<name>.arrows``, and handed to the operating system before
``append`` returns. From time to time the stream is folded into ``<name>.parquet``. Readers merge the two.

The stream keeps vectors as one list column each, so that a row of thousands of hyperparameters costs a few
buffers instead of thousands; folding and reading widen them to one column per entry.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from selftune.tracking.files import replacing

FOLD_SHARE = 0.05  # of the time since the last folding, at most, goes into the next one
FOLD_SECONDS = 5.0  # between foldings, at least

_LABELS = b"selftune.labels"
_KEY = b"selftune.key"


def vector(name: str, labels: Sequence[str]) -> pa.Field:
    """A column that holds one float64 vector per row and is read as the columns ``<name>/<label>``."""
    return pa.field(name, pa.list_(pa.float64()), metadata={_LABELS: json.dumps(list(labels))})


def metrics(name: str) -> pa.Field:
    """A column that holds a mapping of names to floats per row and is read as one column per name."""
    return pa.field(name, pa.map_(pa.string(), pa.float64()))


class Journal:
    """Writes one table of a folder; opened again, it goes on where the last writer stopped or was killed.

    Args:
        folder: made if it does not exist.
        name: of the files ``<name>.arrows`` and ``<name>.parquet``.
        columns: ordinary Arrow fields, or those of ``vector`` and ``metrics``.
        key: the columns that identify a row; of rows with one key the last one appended counts.

    Raises:
        ValueError: if the folder holds a table of that name with other columns.

    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp())
    >>> columns = [pa.field("step", pa.int64()), vector("rate", ["a", "b"])]
    >>> journal = Journal(folder, "steps", columns, key=["step"])
    >>> journal.append({"step": 0, "rate": np.array([0.1, 0.2])})
    >>> read_table(folder, "steps").column_names
    ['step', 'rate/a', 'rate/b']
    >>> journal.close()
    """

    def __init__(self, folder: Path, name: str, columns: Sequence[pa.Field], key: Sequence[str]) -> None:
        self.folder, self.name = Path(folder), name
        self.schema = pa.schema(list(columns), metadata={_KEY: json.dumps(list(key))})
        self._lengths = {
            field.name: len(labels) for field in self.schema if (labels := _labels(field)) is not None
        }
        self.folder.mkdir(parents=True, exist_ok=True)
        if _exists(self.folder, name):
            self._check_columns()
        self._restart()

    def append(self, row: Mapping[str, Any]) -> None:
        """Adds one row: a value per column (a mapping for ``metrics``). No kill loses it once this returned.

        Raises:
            ValueError: if a vector has another length than its labels.
        """
        for name, length in self._lengths.items():
            if len(row[name]) != length:
                raise ValueError(f"column {name!r} has {length} entries, got {len(row[name])}")
        arrays = [pa.array([_plain(row[field.name])], field.type) for field in self.schema]
        self._stream.write(pa.record_batch(arrays, schema=self.schema).serialize())
        if time.monotonic() >= self._fold_at:
            self.fold()

    def fold(self) -> None:
        """Rewrites the Parquet file with everything so far, and starts the stream anew."""
        self._stream.close()
        self._restart()

    def close(self) -> None:
        """Folds for the last time and removes the stream: a table without one is complete."""
        if not self._stream.closed:
            self._stream.close()
            self._write_parquet()
            self._path(".arrows").unlink()

    def _restart(self) -> None:
        # Parquet first, then the empty stream: killed in between, rows are in both, and the key removes one.
        began = time.monotonic()
        if _exists(self.folder, self.name):
            self._write_parquet()
        with replacing(self._path(".arrows")) as temporary:
            temporary.write_bytes(self.schema.serialize())
        self._stream = self._path(".arrows").open("ab", buffering=0)
        cost = time.monotonic() - began
        self._fold_at = began + cost + max(FOLD_SECONDS, cost / FOLD_SHARE)

    def _write_parquet(self) -> None:
        table = read_table(self.folder, self.name)
        with replacing(self._path(".parquet")) as temporary:
            pq.write_table(table, temporary, compression="zstd")

    def _check_columns(self) -> None:
        there = read_table(self.folder, self.name).column_names
        here = _widen(self.schema.empty_table()).column_names
        may_have_more = any(pa.types.is_map(field.type) for field in self.schema)
        if there[: len(here)] != here or (len(there) > len(here) and not may_have_more):
            different = sorted(set(there) ^ set(here)) or there
            raise ValueError(
                f"{self.folder}: holds the {self.name} of another study (they differ in {different[0]!r}); "
                "choose a new folder"
            )

    def _path(self, suffix: str) -> Path:
        return self.folder / f"{self.name}{suffix}"


def read_table(folder: Path, name: str) -> pa.Table:
    """The rows of a journal, closed, open or killed, sorted by key; what a kill tore in half is left out.

    Raises:
        FileNotFoundError: if the folder holds no table of that name.
        ValueError: if the table is not a journal's.
    """
    # The stream first: a writer that folds in between has put its rows into the Parquet file by then.
    try:
        stream = (Path(folder) / f"{name}.arrows").read_bytes()
    except FileNotFoundError:
        stream = b""
    parts: list[pa.Table] = []
    if (parquet := Path(folder) / f"{name}.parquet").is_file():
        parts.append(pq.read_table(parquet, partitioning=None))
    if stream:
        parts.append(_widen(_read_stream(stream)))
    if not parts:
        raise FileNotFoundError(f"{folder}: holds no study; it has neither {name}.parquet nor {name}.arrows")
    if any(_KEY not in (part.schema.metadata or {}) for part in parts):
        raise ValueError(f"{parquet}: was not written by selftune; give the output folder of a study")
    table = pa.concat_tables(parts, promote_options="default") if len(parts) > 1 else parts[0]
    return _sorted_by_key(table.replace_schema_metadata(parts[-1].schema.metadata))


def _exists(folder: Path, name: str) -> bool:
    return any((folder / f"{name}{suffix}").is_file() for suffix in (".arrows", ".parquet"))


def _plain(value: Any) -> Any:
    return list(value.items()) if isinstance(value, Mapping) else value


def _labels(field: pa.Field) -> list[str] | None:
    encoded = (field.metadata or {}).get(_LABELS)
    return None if encoded is None else list(json.loads(encoded))


def _read_stream(stream: bytes) -> pa.Table:
    reader = pa.ipc.open_stream(stream)
    batches = []
    while True:
        try:
            batches.append(reader.read_next_batch())
        except (StopIteration, pa.ArrowInvalid, OSError):  # the end, or the row that a kill tore
            return pa.Table.from_batches(batches, schema=reader.schema).combine_chunks()


def _widen(table: pa.Table) -> pa.Table:
    columns: dict[str, pa.Array] = {}
    for field in table.schema:
        column = table[field.name]
        labels = _labels(field)
        if labels is not None:
            flat = column.combine_chunks().flatten().to_numpy(zero_copy_only=False)
            rows = flat.reshape(table.num_rows, len(labels))
            for index, label in enumerate(labels):
                columns[f"{field.name}/{label}"] = pa.array(np.ascontiguousarray(rows[:, index]))
        elif pa.types.is_map(field.type):
            mappings = [dict(pairs) for pairs in column.to_pylist()]
            for name in dict.fromkeys(name for mapping in mappings for name in mapping):
                columns[name] = pa.array([mapping.get(name) for mapping in mappings], pa.float64())
        else:
            columns[field.name] = column
    return pa.table(columns, metadata=table.schema.metadata)


def _sorted_by_key(table: pa.Table) -> pa.Table:
    key: list[str] = json.loads(table.schema.metadata[_KEY])
    parts = [table[name].to_numpy() for name in key]
    order = np.lexsort([np.arange(table.num_rows), *reversed(parts)])
    if not len(order):
        return table
    is_last = np.zeros(len(order), dtype=bool)
    for part in parts:
        is_last[:-1] |= part[order][1:] != part[order][:-1]
    is_last[-1] = True
    kept = order[is_last]
    return table if np.array_equal(kept, np.arange(table.num_rows)) else table.take(pa.array(kept))
