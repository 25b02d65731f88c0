"""Files in the driver's folder, as a worker reads and writes them that does not reach it."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

CHUNK = 64 * 2**20
"""Bytes in one call at most; Ray's own copies come in chunks of this size, too."""


class ServedReader(io.RawIOBase):
    """A file in the driver's folder, read there part by part."""

    def __init__(self, ask: Callable[..., Any], path: str, size: int) -> None:
        self._ask, self._path, self._size, self._offset = ask, path, size, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def size(self) -> int:
        return self._size

    def tell(self) -> int:
        return self._offset

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._offset, io.SEEK_END: self._size}[whence]
        self._offset = base + offset
        return self._offset

    def read(self, size: int | None = -1) -> bytes:
        left = self._size - self._offset
        left = left if size is None or size < 0 else min(size, left)
        parts = []
        while left > 0:
            part: bytes = self._ask("read", self._path, self._offset, min(left, CHUNK))
            if not part:
                raise OSError(f"{self._path}: ends before its size")
            parts.append(part)
            self._offset += len(part)
            left -= len(part)
        return b"".join(parts)


class ServedWriter(io.RawIOBase):
    """A file in the driver's folder, sent part by part; it is there when it is closed."""

    def __init__(self, ask: Callable[..., Any], path: str) -> None:
        self._ask, self._path, self._sent = ask, path, 0
        self._kept = bytearray()

    def writable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._sent + len(self._kept)

    def write(self, content: Any) -> int:
        self._kept += content
        if len(self._kept) >= CHUNK:
            self._send()
        return len(content)

    def _send(self) -> None:
        self._ask("write", self._path, self._sent, bytes(self._kept))
        self._sent += len(self._kept)
        self._kept.clear()

    def close(self) -> None:
        if not self.closed:
            super().close()
            if self._kept or not self._sent:
                self._send()
            self._ask("finish", self._path)
