"""An append-only table that survives being killed, a full disk, and notices when it was damaged.

A row is one Arrow message in a frame (length and checksum) of ``<name>.arrows``, handed to the operating system
before ``append`` returns. After some thousand rows these go into a Parquet file of their own,
``<name>.part-<number>.parquet``, so that a writer needs the same memory however long it writes. When the table
is closed, all of it becomes ``<name>.parquet``. Parquet files carry checksums, and each file says what the others
must hold, so that a missing one is noticed. Readers merge all.

Frames and parts keep vectors as one list column each, so that a row of thousands of hyperparameters costs a few
buffers instead of thousands; closing and reading widen them to one column per entry.
"""

from __future__ import annotations

import hashlib
import json
import re
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

PART_ROWS = 4096  # of the frames become a part
PART_BYTES = 64 * 2**20  # of the frames, if these are reached first

FORMAT = b"2"
_LABELS = b"selftune.labels"
_KEY = b"selftune.key"
_FORMAT = b"selftune.format"
_CHECKSUM = b"selftune.checksum"
_OPEN = b"selftune.open"  # of a Parquet file: rows that came later are in parts and frames
_FOLDED = b"selftune.folded"  # of the frames: rows that the Parquet file held when they were begun
_PARTS = b"selftune.parts"  # of the frames: how many parts there were then


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
        name: what the names of its files begin with.
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
        if table is not None:
            self._write_parquet(table, is_open=True)
        self._folded = 0 if table is None else table.num_rows
        # The Parquet file first, then the empty frames: killed in between, rows are twice there, and the key
        # removes one.
        self._begin(part=0)
        for path in _parts(self.folder, name).values():
            path.unlink()

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
        self._rows += 1
        if self._rows >= PART_ROWS or self._frames.length >= PART_BYTES:
            self.fold()

    def fold(self) -> None:
        """Makes a part of the frames' rows, and starts the frames anew.

        Raises:
            OSError: if it cannot be written; the rows are where they were.
        """
        table = _read_frames(self.folder, self.name)
        assert table is not None
        with replacing(_part(self.folder, self.name, self._part)) as temporary:
            write_parquet(table, temporary, is_open=True)
        self._frames.close()
        self._begin(self._part + 1)

    def close(self) -> None:
        """Makes one file of all: a table without frames is complete."""
        if not self._frames.closed:
            self._frames.close()
            self._write_parquet(read_table(self.folder, self.name), is_open=False)
            self._path(".arrows").unlink()
            for path in _parts(self.folder, self.name).values():
                path.unlink()

    def _begin(self, part: int) -> None:
        there = {_FOLDED: str(self._folded), _PARTS: str(part)}
        schema = self.schema.with_metadata({**(self.schema.metadata or {}), **there})
        self._frames = FrameWriter(self._path(".arrows"), schema.serialize().to_pybytes())
        self._part, self._rows = part, 0

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
        _CHECKSUM: _checksum(table),
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
    try:
        return _merged(_read_all(Path(folder), name))
    except DamagedFile:  # a writer that goes on with the table may have replaced files meanwhile
        return _merged(_read_all(Path(folder), name))


def _read_all(folder: Path, name: str) -> list[pa.Table]:
    """What the files of a table hold, oldest rows first."""
    # The newest rows first: a writer puts them into an older file before it removes them from a newer one.
    frames = _read_frames(folder, name)
    parts = _read_parts(folder, name)
    folded = _read_parquet(folder / f"{name}.parquet")
    is_closed = folded is not None and folded.schema.metadata[_OPEN] == b"0"
    if frames is None and not parts and folded is None:
        raise FileNotFoundError(f"{folder}: holds no study; it has neither {name}.parquet nor {name}.arrows")
    if frames is None and not is_closed:
        raise DamagedFile(
            f"{folder / name}.arrows: is missing, with the last rows of {name}; put it back, or go on"
            f" with `selftune resume {folder}` if the study has not ended"
        )
    if frames is not None and not is_closed:
        if int(frames.schema.metadata[_FOLDED]) > (0 if folded is None else folded.num_rows):
            raise DamagedFile(f"{folder / name}.parquet: is missing, or older than {name}.arrows; put it back")
        for number in range(int(frames.schema.metadata[_PARTS])):
            if number not in parts:
                raise DamagedFile(f"{_part(folder, name, number)}: is missing; put it back")
    newer = [*(parts[number] for number in sorted(parts)), *([] if frames is None else [frames])]
    return [*([] if folded is None else [folded]), *map(_widen, newer)]


def _kept(folder: Path, name: str, keeps: Callable[[pa.Table], Bool[np.ndarray, "rows"]]) -> pa.Table:
    """The rows that are kept; those that are not may be damaged, because they are computed again."""
    try:
        table = read_table(folder, name)
    except DamagedFile:
        folded, parts = _read_parquet(folder / f"{name}.parquet"), _read_parts(folder, name)
        if folded is None and not parts:
            raise
        older = [] if folded is None else [folded]
        table = _merged([*older, *(_widen(parts[number]) for number in sorted(parts))])
    return table.filter(pa.array(keeps(table))).combine_chunks()


class JournalFollower:
    """Reads a table while it is written; rows come about once, and what was read before is not read again.

    Args:
        folder, name: of the table.

    Attributes:
        is_whole: whether the last rows that it gave were all there are.

    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp())
    >>> journal = Journal(folder, "steps", [pa.field("step", pa.int64())], key=["step"])
    >>> follower = JournalFollower(folder, "steps")
    >>> for step in range(2):
    ...     journal.append({"step": step})
    ...     print(follower.rows()["step"].to_pylist())
    [0]
    [1]
    >>> journal.close()
    """

    def __init__(self, folder: Path, name: str) -> None:
        self._folder, self._name = Path(folder), name
        self.again()

    def again(self) -> None:
        """The next call gives all rows."""
        self._whole: object = ()  # which whole file was there
        self._part, self._frames = 0, 0  # parts and rows of the frames that were read
        self.is_whole = True

    def rows(self) -> pa.Table:
        """Rows that were written since the last call, in that order; after a writer has begun anew, all of them.

        Raises:
            FileNotFoundError, ValueError, DamagedFile: as ``read_table``.
        """
        whole = _identity(self._folder / f"{self._name}.parquet")
        frames = _read_frames(self._folder, self._name)
        if frames is None or whole != self._whole:
            table = read_table(self._folder, self._name)
            self.again()
            if frames is not None:
                self._whole = whole
                self._part, self._frames = int(frames.schema.metadata[_PARTS]), frames.num_rows
            return table
        self.is_whole = False
        part, seen, new = int(frames.schema.metadata[_PARTS]), self._frames, []
        for number in range(self._part, part):
            rows = _read_parquet(_part(self._folder, self._name, number))
            if rows is None:  # made one with the others meanwhile
                self.again()
                return self.rows()
            new.append(rows.slice(seen))
            seen = 0
        new.append(frames.slice(seen))
        self._part, self._frames = part, frames.num_rows
        return _concatenated([_widen(rows.combine_chunks()) for rows in new])


def _identity(path: Path) -> object:
    try:
        status = path.stat()
    except FileNotFoundError:
        return None
    return status.st_ino, status.st_mtime_ns, status.st_size


def has_table(folder: Path, name: str) -> bool:
    """Whether a folder holds a table of that name, whole or not."""
    return any((folder / f"{name}{suffix}").is_file() for suffix in (".arrows", ".parquet")) or bool(
        _parts(folder, name)
    )


def _part(folder: Path, name: str, number: int) -> Path:
    return folder / f"{name}.part-{number}.parquet"


def _parts(folder: Path, name: str) -> dict[int, Path]:
    found = ((re.fullmatch(r".*\.part-(\d+)\.parquet", path.name), path) for path in folder.glob(f"{name}.part-*"))
    return {int(match[1]): path for match, path in found if match is not None}


def _read_parts(folder: Path, name: str) -> dict[int, pa.Table]:
    tables = {number: _read_parquet(path) for number, path in sorted(_parts(folder, name).items())}
    return {number: table for number, table in tables.items() if table is not None}  # gone: in the whole by now


def _merged(parts: Sequence[pa.Table]) -> pa.Table:
    return _sorted_by_key(_concatenated(parts))


def _concatenated(parts: Sequence[pa.Table]) -> pa.Table:
    table = pa.concat_tables(parts, promote_options="default") if len(parts) > 1 else parts[0]
    return table.replace_schema_metadata({_KEY: parts[-1].schema.metadata[_KEY]})


def _plain(value: Any) -> Any:
    return list(value.items()) if isinstance(value, Mapping) else value


def _labels(field: pa.Field) -> list[str] | None:
    encoded = (field.metadata or {}).get(_LABELS)
    return None if encoded is None else list(json.loads(encoded))


def _read_parquet(path: Path) -> pa.Table | None:
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
    if metadata.get(_OPEN) not in (b"0", b"1"):
        raise DamagedFile(f"{path}: is damaged; put back a copy of it")
    if metadata.get(_CHECKSUM, b"").decode(errors="replace") != _checksum(table):
        raise DamagedFile(f"{path}: is damaged (its checksum differs); put back a copy of it")
    return table


def _checksum(table: pa.Table) -> str:
    """Of what a table says, the labels of its vectors among it."""
    labels = {field.name: (field.metadata or {}).get(_LABELS, b"").decode() for field in table.schema}
    vectors = {name: text for name, text in labels.items() if text}
    content = checksum_of(table)
    return hashlib.sha256(json.dumps([content, vectors]).encode()).hexdigest() if vectors else content


def _read_frames(folder: Path, name: str) -> pa.Table | None:
    path = folder / f"{name}.arrows"
    try:
        frames = read_frames(path.read_bytes(), path)
    except FileNotFoundError:
        return None
    if not frames:
        raise DamagedFile(f"{path}: is damaged, it ends before its first row")
    reader = pa.ipc.open_stream(b"".join(frames))
    table = pa.Table.from_batches(list(reader), schema=reader.schema).combine_chunks()
    return table


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
