"""A checksum of what a table says: names, types, values and gaps, however they are stored."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import pyarrow as pa


def checksum_of(table: pa.Table) -> str:
    """SHA-256 over the columns, in hexadecimal; columns are numbers or text.

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
    head = json.dumps([name, str(column.type), len(column)]).encode()
    if not (pa.types.is_integer(column.type) or pa.types.is_floating(column.type)):
        return [head, json.dumps(column.to_pylist()).encode()]
    if not column.null_count:
        return [head, column.to_numpy().tobytes()]
    gaps = column.is_null().to_numpy().tobytes()
    return [head, gaps, column.fill_null(0).to_numpy().tobytes()]
