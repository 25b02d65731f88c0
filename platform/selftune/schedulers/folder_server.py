"""Reads and writes the driver's folder for workers that do not reach it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pyarrow.fs import FileInfo, FileSelector, LocalFileSystem


class FolderServer:
    """Reads and writes below a folder for those who do not reach it.

    Ray may call a method twice, where the first answer was lost. Of a file that changes nothing; a log may have a
    line twice.

    Args:
        folder: nothing outside of it is served.

    Raises:
        PermissionError: by every call for a path outside.
    """

    def __init__(self, folder: str) -> None:
        self._folder = Path(folder)
        self._disk = LocalFileSystem()

    def info(self, paths: Sequence[str]) -> list[tuple[Any, ...]]:
        return [_plain(one) for one in self._disk.get_file_info([self._own(path) for path in paths])]

    def listing(self, path: str, allow_not_found: bool, recursive: bool) -> list[tuple[Any, ...]]:
        selector = FileSelector(self._own(path), allow_not_found=allow_not_found, recursive=recursive)
        return [_plain(one) for one in self._disk.get_file_info(selector)]

    def change(self, what: str, paths: Sequence[str], **how: Any) -> None:
        """``create_dir``, ``delete_dir``, ``delete_dir_contents``, ``delete_file``, ``move`` or ``copy_file``."""
        getattr(self._disk, what)(*map(self._own, paths), **how)

    def read(self, path: str, offset: int, size: int) -> bytes:
        with open(self._own(path), "rb") as file:
            file.seek(offset)
            return file.read(size)

    def write(self, path: str, offset: int, content: bytes) -> None:
        """Writes a part of a file that is not there until ``finish``."""
        with open(self._partial(path), "r+b" if offset else "wb") as file:
            file.seek(offset)
            file.write(content)

    def finish(self, path: str) -> None:
        """The file is there, whole, at once."""
        partial = self._partial(path)
        if partial.exists():
            os.replace(partial, path)

    def append(self, path: str, text: str) -> None:
        """Adds lines to a log."""
        place = Path(self._own(path))
        place.parent.mkdir(exist_ok=True)
        with open(place, "a", encoding="utf-8") as file:
            file.write(text)

    def _partial(self, path: str) -> Path:
        # with the number of the node's process: an actor that starts again goes on with the file, and what a node
        # leaves that is gone is known as a leftover
        place = Path(self._own(path))
        return place.with_name(f".{place.name}.{os.getppid()}.partial")

    def _own(self, path: str) -> str:
        if not Path(os.path.normpath(path)).is_relative_to(self._folder):
            raise PermissionError(f"{path} is not below {self._folder}")
        return path


def _plain(info: FileInfo) -> tuple[Any, ...]:
    return info.path, info.type.value, info.size, info.mtime_ns
