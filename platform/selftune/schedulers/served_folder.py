"""The driver's folder on a cluster that others have started, whose nodes may not share a disk with the driver."""

from __future__ import annotations

import io
import logging
import os
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pyarrow
import ray
from pyarrow.fs import FileInfo, FileSelector, FileSystemHandler, FileType, LocalFileSystem, PyFileSystem
from ray.exceptions import RayError, RayTaskError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from selftune.logs import WorkerLog
from selftune.schedulers.cluster import is_own

_NAMESPACE = "selftune"
_CHUNK = 64 * 2**20
"""Bytes in one call at most; Ray's own copies come in chunks of this size, too."""


@contextmanager
def served(folder: Path) -> Iterator[PyFileSystem | None]:
    """A file system for ``tune.RunConfig(storage_filesystem=...)``: this machine's disk, for workers everywhere.

    None, for the disk itself, if this process has started the cluster, whose workers all are on this machine.

    A worker that sees ``folder`` itself, because it is on this machine or the disk is shared, reads and writes
    there. The others ask an actor on this node, so that checkpoints come to the driver's folder from any node.

    Args:
        folder: whose files are served.

    Raises:
        OSError: if it cannot be written.
    """
    if is_own():
        yield None
        return
    token = uuid.uuid4().hex
    mark = _mark(str(folder), token)
    mark.touch()
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    server: Any = ray.remote(FolderServer)
    actor = server.options(
        name=token,
        namespace=_NAMESPACE,
        num_cpus=0,
        scheduling_strategy=here,
        max_restarts=-1,
        max_task_retries=-1,
    ).remote(str(folder))
    try:
        yield PyFileSystem(ServedFolder(str(folder), token))
    finally:
        mark.unlink(missing_ok=True)
        ray.kill(actor)


def _mark(folder: str, token: str) -> Path:
    return Path(folder, f".driver-{token}")


class FolderServer:
    """Reads and writes below a folder for those who do not reach it. What is done twice is done once.

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


@dataclass(frozen=True)
class ServedFolder(FileSystemHandler):  # type: ignore[misc]
    """A folder on the driver's machine, from wherever this object is unpickled: see ``served``.

    Args:
        folder: as the driver calls it.
        token: of this driver; a folder without its mark is another one of that name.
    """

    folder: str
    token: str

    def __reduce__(self) -> Any:
        return ServedFolder, (self.folder, self.token)  # what was found out here may not hold there

    @cached_property
    def is_here(self) -> bool:
        """Whether this process reaches the folder itself."""
        return _mark(self.folder, self.token).is_file()

    @cached_property
    def _server(self) -> Any:
        return ray.get_actor(self.token, namespace=_NAMESPACE)

    @cached_property
    def _disk(self) -> Any:
        return LocalFileSystem()

    def ask(self, what: str, *arguments: Any, **more: Any) -> Any:
        """What the server's method gives.

        Raises:
            OSError: what it raises there, or because it does not answer.
        """
        try:
            return ray.get(getattr(self._server, what).remote(*arguments, **more))
        except RayTaskError as error:
            raise error.cause from None
        except (RayError, ValueError) as error:  # ValueError: there is no such actor any more
            reason = str(error).strip().splitlines()[0]
            raise OSError(f"{self.folder}: the driver's machine does not answer: {reason}") from error

    def tell(self, what: str, *arguments: Any) -> None:
        """As ``ask``, but nobody waits."""
        getattr(self._server, what).remote(*arguments)

    def get_type_name(self) -> str:
        return "selftune+driver"

    def normalize_path(self, path: str) -> str:
        return path

    def get_file_info(self, paths: list[str]) -> list[FileInfo]:
        if self.is_here:
            found: list[FileInfo] = self._disk.get_file_info(paths)
            return found
        return [_info(*one) for one in self.ask("info", paths)]

    def get_file_info_selector(self, selector: FileSelector) -> list[FileInfo]:
        if self.is_here:
            found: list[FileInfo] = self._disk.get_file_info(selector)
            return found
        listing = self.ask("listing", selector.base_dir, selector.allow_not_found, selector.recursive)
        return [_info(*one) for one in listing]

    def create_dir(self, path: str, recursive: bool) -> None:
        self._change("create_dir", path, recursive=recursive)

    def delete_dir(self, path: str) -> None:
        self._change("delete_dir", path)

    def delete_dir_contents(self, path: str, missing_dir_ok: bool = False) -> None:
        self._change("delete_dir_contents", path, missing_dir_ok=missing_dir_ok)

    def delete_root_dir_contents(self) -> None:
        raise PermissionError("the root folder is not to be emptied")

    def delete_file(self, path: str) -> None:
        self._change("delete_file", path)

    def move(self, src: str, dest: str) -> None:
        self._change("move", src, dest)

    def copy_file(self, src: str, dest: str) -> None:
        self._change("copy_file", src, dest)

    def _change(self, what: str, *paths: str, **how: Any) -> None:
        if self.is_here:
            getattr(self._disk, what)(*paths, **how)
        else:
            self.ask("change", what, paths, **how)

    def open_input_stream(self, path: str) -> Any:
        return self.open_input_file(path)

    def open_input_file(self, path: str) -> Any:
        if self.is_here:
            return self._disk.open_input_file(path)
        [about] = self.get_file_info([path])
        if about.type != FileType.File:
            raise FileNotFoundError(path)
        return pyarrow.PythonFile(_Reader(self, path, about.size), mode="r")

    def open_output_stream(self, path: str, metadata: Any) -> Any:
        if self.is_here:
            return self._disk.open_output_stream(path, compression=None)
        return pyarrow.PythonFile(_Writer(self, path), mode="w")

    def open_append_stream(self, path: str, metadata: Any) -> Any:
        raise NotImplementedError("files of checkpoints are written once")


class _Reader(io.RawIOBase):
    """A file in the driver's folder, read there part by part."""

    def __init__(self, folder: ServedFolder, path: str, size: int) -> None:
        self._folder, self._path, self._size, self._offset = folder, path, size, 0

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
            part: bytes = self._folder.ask("read", self._path, self._offset, min(left, _CHUNK))
            if not part:
                raise OSError(f"{self._path}: ends before its size")
            parts.append(part)
            self._offset += len(part)
            left -= len(part)
        return b"".join(parts)


class _Writer(io.RawIOBase):
    """A file in the driver's folder, sent part by part; it is there when it is closed."""

    def __init__(self, folder: ServedFolder, path: str) -> None:
        self._folder, self._path, self._sent = folder, path, 0
        self._kept = bytearray()

    def writable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._sent + len(self._kept)

    def write(self, content: Any) -> int:
        self._kept += content
        if len(self._kept) >= _CHUNK:
            self._send()
        return len(content)

    def _send(self) -> None:
        self._folder.ask("write", self._path, self._sent, bytes(self._kept))
        self._sent += len(self._kept)
        self._kept.clear()

    def close(self) -> None:
        if not self.closed:
            super().close()
            if self._kept or not self._sent:
                self._send()
            self._folder.ask("finish", self._path)


def _plain(info: FileInfo) -> tuple[Any, ...]:
    return info.path, info.type.value, info.size, info.mtime_ns


def _info(path: str, kind: int, size: int | None, mtime: int | None) -> FileInfo:
    return FileInfo(path, FileType(kind), size=size, mtime_ns=mtime)


# Logs -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class SentLog(WorkerLog):
    """How workers log that do not reach the folder of the run: the driver's machine writes their lines.

    Args:
        served: the folder of the run, or one below it.
    """

    served: ServedFolder

    def handler(self, path: Path) -> logging.Handler:
        return logging.StreamHandler(_Lines(self.served, str(path)))


class _Lines(io.TextIOBase):
    def __init__(self, served: ServedFolder, path: str) -> None:
        self._served, self._path = served, path

    def write(self, text: str) -> int:
        self._served.tell("append", self._path, text)
        return len(text)


def log_from_here(log: WorkerLog | None, filesystem: Any) -> WorkerLog | None:
    """A log as a worker can write it, given the file system of its trial's storage; travels to its helpers."""
    handler: Callable[..., Any] | None = getattr(filesystem, "handler", None)
    if log is None or not isinstance(handler, ServedFolder) or handler.is_here:
        return log
    return SentLog(log.folder, log.level, log.study, handler)
