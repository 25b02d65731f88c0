"""An append-only table that survives being killed, a full disk, and notices when it was damaged.

A row is one Arrow message in a frame (length and checksum) of ``<name>.arrows``, handed to the operating system
before ``append`` returns. From time to time these rows are folded into ``<name>.parquet``, which carries a
checksum of its own. Each file says what the other must hold, so that a missing one is noticed. Readers merge both.

The frames keep vectors as one list column each, so that a row of thousands of hyperparameters costs a few
buffers instead of thousands; folding and reading widen them to one column per entry.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from selftune.shapes import Bool
from selftune.storage.files import DamagedFile, replacing
from selftune.storage.frames import FrameWriter, read_frames
from selftune.tracking.table_checksum import checksum_of

FOLD_SHARE = 0.05  # of a process's time, at most, goes into folding, of all of its journals together
FOLD_SECONDS = 5.0  # between two foldings of one journal, at least

FORMAT = b"2"
_LABELS = b"selftune.labels"
_KEY = b"selftune.key"
_FORMAT = b"selftune.format"
_CHECKSUM = b"selftune.checksum"
_OPEN = b"selftune.open"  # of a Parquet file: rows that came later are in the frames
_FOLDED = b"selftune.folded"  # of the frames: rows that the Parquet file held when they were begun


def vector(name: str, labels: Sequence[str]) -> pa.Field:
    """A column that holds one float64 vector per row and is read as the columns ``<name>/<label>``."""
    return pa.field(name, pa.list_(pa.float64()), metadata={_LABELS: json.dumps(list(labels))})


def metrics(name: str) -> pa.Field:
    """A column that holds a mapping of names to floats per row and is read as one column per name."""
    return pa.field(name, pa.map_(pa.string(), pa.float64()))


class _Pace:
    """When a process may fold again, whichever journal: a driver of a thousand teams has two thousand."""

    next_at = 0.0

    @classmethod
    def spent(cls, began: float, ended: float) -> None:
        cls.next_at = ended + (ended - began) * (1 / FOLD_SHARE - 1)


class Journal:
    """Writes one table of a folder; opened again, it goes on where the last writer stopped or was killed.

    Args:
        folder: made if it does not exist.
        name: of the files ``<name>.arrows`` and ``<name>.parquet``.
        columns: ordinary Arrow fields, or those of ``vector`` and ``metrics``.
        key: the columns that identify a row; of rows with one key the last one appended counts.
        keeps: which rows of an earlier writer are kept, as a mask; None keeps all.

    Raises:
        ValueError: if the folder holds a table of that name with other columns.
        DamagedFile: if the table there is damaged in what is kept.

    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp())
    >>> columns = [pa.field("step", pa.int64()), vector("rate", ["a", "b"])]
    >>> journal = Journal(folder, "steps", columns, key=["step"])
    >>> journal.append({"step": 0, "rate": np.array([0.1, 0.2])})
    >>> read_table(folder, "steps").column_names
    ['step', 'rate/a', 'rate/b']
    >>> journal.close()
    """

    def __init__(
        self,
        folder: Path,
        name: str,
        columns: Sequence[pa.Field],
        key: Sequence[str],
        keeps: Callable[[pa.Table], Bool[np.ndarray, "rows"]] | None = None,
    ) -> None:
        self.folder, self.name = Path(folder), name
        self.schema = pa.schema(list(columns), metadata={_KEY: json.dumps(list(key))})
        self._lengths = {
            field.name: len(labels) for field in self.schema if (labels := _labels(field)) is not None
        }
        self.folder.mkdir(parents=True, exist_ok=True)
        table = None
        if has_table(self.folder, name):
            table = read_table(self.folder, name) if keeps is None else _kept(self.folder, name, keeps)
            self._check_columns(table)
        self._restart(table)

    def append(self, row: Mapping[str, Any]) -> None:
        """Adds one row: a value per column (a mapping for ``metrics``). No kill loses it once this returned.

        Raises:
            ValueError: if a vector has another length than its labels.
            OSError: if it could not be written; the table is then as it was before.
        """
        for name, length in self._lengths.items():
            if len(row[name]) != length:
                raise ValueError(f"column {name!r} has {length} entries, got {len(row[name])}")
        arrays = [pa.array([_plain(row[field.name])], field.type) for field in self.schema]
        self._frames.append(pa.record_batch(arrays, schema=self.schema).serialize().to_pybytes())
        if time.monotonic() >= max(self._fold_at, _Pace.next_at):
            self.fold()

    def fold(self) -> None:
        """Rewrites the Parquet file with everything so far, and starts the frames anew."""
        began = time.monotonic()
        self._frames.close()
        self._restart(read_table(self.folder, self.name))
        _Pace.spent(began, time.monotonic())

    def close(self) -> None:
        """Folds for the last time and removes the frames: a table without them is complete."""
        if not self._frames.closed:
            self._frames.close()
            self._write_parquet(read_table(self.folder, self.name), is_open=False)
            self._path(".arrows").unlink()

    def _restart(self, table: pa.Table | None) -> None:
        # Parquet first, then the empty frames: killed in between, rows are in both, and the key removes one.
        if table is not None:
            self._write_parquet(table, is_open=True)
        folded = str(0 if table is None else table.num_rows)
        schema = self.schema.with_metadata({**(self.schema.metadata or {}), _FOLDED: folded})
        self._frames = FrameWriter(self._path(".arrows"), schema.serialize().to_pybytes())
        self._fold_at = time.monotonic() + FOLD_SECONDS

    def _write_parquet(self, table: pa.Table, is_open: bool) -> None:
        with replacing(self._path(".parquet")) as temporary:
            write_parquet(table, temporary, is_open)

    def _check_columns(self, table: pa.Table) -> None:
        there = table.column_names
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


def write_parquet(table: pa.Table, path: Path, is_open: bool = False) -> None:
    """Writes what ``read_table`` gave as one file; ``is_open`` says that a journal's frames hold later rows."""
    metadata = {
        _KEY: table.schema.metadata[_KEY],
        _FORMAT: FORMAT,
        _CHECKSUM: checksum_of(table),
        _OPEN: str(int(is_open)),
    }
    pq.write_table(table.replace_schema_metadata(metadata), path, compression="zstd")


def read_table(folder: Path, name: str) -> pa.Table:
    """The rows of a journal, closed, open or killed, sorted by key; what a kill tore in half is left out.

    Raises:
        FileNotFoundError: if the folder holds no table of that name.
        ValueError: if the table is not a journal's.
        DamagedFile: if a file of it changed, or is missing.
    """
    # The frames first: a writer that folds in between has put its rows into the Parquet file by then.
    frames = _read_frames(folder, name)
    folded = _read_parquet(folder, name)
    if frames is None and folded is not None and folded.schema.metadata[_OPEN] == b"1":
        frames = _read_frames(folder, name)  # begun since
        if frames is None:
            raise DamagedFile(
                f"{Path(folder) / name}.arrows: is missing, with the last rows of {name}; put it back, or go on"
                f" with `selftune resume {folder}` if the study has not ended"
            )
    if frames is None and folded is None:
        raise FileNotFoundError(f"{folder}: holds no study; it has neither {name}.parquet nor {name}.arrows")
    if frames is not None and int(frames.schema.metadata[_FOLDED]) > (0 if folded is None else folded.num_rows):
        raise DamagedFile(f"{Path(folder) / name}.parquet: is missing, or older than {name}.arrows; put it back")
    return _merged([table for table in (folded, frames) if table is not None])


def _kept(folder: Path, name: str, keeps: Callable[[pa.Table], Bool[np.ndarray, "rows"]]) -> pa.Table:
    """The rows that are kept; those that are not may be damaged, because they are computed again."""
    try:
        table = read_table(folder, name)
    except DamagedFile:
        folded = _read_parquet(folder, name)
        if folded is None:
            raise
        table = _merged([folded])
    return table.filter(pa.array(keeps(table))).combine_chunks()


def has_table(folder: Path, name: str) -> bool:
    """Whether a folder holds a table of that name, whole or not."""
    return any((folder / f"{name}{suffix}").is_file() for suffix in (".arrows", ".parquet"))


def _merged(parts: Sequence[pa.Table]) -> pa.Table:
    table = pa.concat_tables(parts, promote_options="default") if len(parts) > 1 else parts[0]
    return _sorted_by_key(table.replace_schema_metadata({_KEY: parts[-1].schema.metadata[_KEY]}))


def _plain(value: Any) -> Any:
    return list(value.items()) if isinstance(value, Mapping) else value


def _labels(field: pa.Field) -> list[str] | None:
    encoded = (field.metadata or {}).get(_LABELS)
    return None if encoded is None else list(json.loads(encoded))


def _read_parquet(folder: Path, name: str) -> pa.Table | None:
    path = Path(folder) / f"{name}.parquet"
    try:
        table = pq.read_table(path, partitioning=None)
    except FileNotFoundError:
        return None
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise DamagedFile(f"{path}: is damaged ({_first_line(error)}); put back a copy of it") from error
    metadata = table.schema.metadata or {}
    if _KEY not in metadata:
        raise ValueError(f"{path}: was not written by selftune; give the output folder of a study")
    if metadata.get(_FORMAT) != FORMAT:
        raise ValueError(f"{path}: was written by another version of selftune; read it with that one")
    if metadata.get(_CHECKSUM, b"").decode(errors="replace") != checksum_of(table):
        raise DamagedFile(f"{path}: is damaged (its checksum differs); put back a copy of it")
    return table


def _read_frames(folder: Path, name: str) -> pa.Table | None:
    path = Path(folder) / f"{name}.arrows"
    try:
        frames = read_frames(path.read_bytes(), path)
    except FileNotFoundError:
        return None
    if not frames:
        raise DamagedFile(f"{path}: is damaged, it ends before its first row")
    reader = pa.ipc.open_stream(b"".join(frames))
    table = pa.Table.from_batches(list(reader), schema=reader.schema).combine_chunks()
    return _widen(table)


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


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
