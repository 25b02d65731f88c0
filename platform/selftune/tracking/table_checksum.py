"""A checksum of what a table says: names, types, values and gaps, however they are stored."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import pyarrow as pa
import pyarrow.compute


def checksum_of(table: pa.Table) -> str:
    """SHA-256 over the columns, in hexadecimal; columns are numbers, text, mappings, or lists of these.

    >>> checksum_of(pa.table({"a": [1, None]})) == checksum_of(pa.table({"a": pa.chunked_array([[1], [None]])}))
    True
    >>> checksum_of(pa.table({"a": [1, None]})) == checksum_of(pa.table({"a": [1, 0]}))
    False
    """
    checksum = hashlib.sha256()
    for name, column in zip(table.column_names, table.columns, strict=True):
        for content in _contents(name, column):
            checksum.update(len(content).to_bytes(8, "little"))
            checksum.update(content)
    return checksum.hexdigest()


def _contents(name: str, column: pa.ChunkedArray) -> list[Any]:
    if pa.types.is_list(column.type):  # Parquet renames its entries
        head = json.dumps([name, "list", len(column)]).encode()
        lengths = pa.compute.list_value_length(column).fill_null(-1)
        entries = pa.chunked_array([chunk.flatten() for chunk in column.chunks], column.type.value_type)
        return [head, *_contents("lengths", lengths), *_contents("entries", entries)]
    kind = "map" if pa.types.is_map(column.type) else str(column.type)
    head = json.dumps([name, kind, len(column)]).encode()
    if not (pa.types.is_integer(column.type) or pa.types.is_floating(column.type)):
        return [head, json.dumps(column.to_pylist()).encode()]
    if not column.null_count:
        return [head, column.to_numpy().tobytes()]
    gaps = column.is_null().to_numpy().tobytes()
    return [head, gaps, column.fill_null(0).to_numpy().tobytes()]
