"""The driver's folder on a cluster that others have started, whose nodes may not share a disk with the driver."""

from __future__ import annotations

import io
import uuid
from collections.abc import Iterator
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

from selftune.schedulers.cluster import is_own
from selftune.schedulers.folder_server import FolderServer
from selftune.schedulers.served_files import ServedReader, ServedWriter

_NAMESPACE = "selftune"
_ATTEMPTS = 5
"""How often something is asked of actors that end before they answer."""


@contextmanager
def served(folder: Path) -> Iterator[PyFileSystem | None]:
    """A file system for ``tune.RunConfig(storage_filesystem=...)``: this machine's disk, for workers everywhere.

    None, for the disk itself, if this process has started the cluster, whose workers all are on this machine.

    A worker that sees ``folder`` itself, because it is on this machine or the disk is shared, reads and writes
    there. The others ask an actor on this node, which the first of them starts, so that checkpoints come to the
    driver's folder from any node.

    Args:
        folder: whose files are served.

    Raises:
        OSError: if it cannot be written.
    """
    if is_own():
        yield None
        return
    token = uuid.uuid4().hex
    mark = _leave_mark(folder, token)
    try:
        yield PyFileSystem(ServedFolder(str(folder), token, ray.get_runtime_context().get_node_id()))
    finally:
        mark.unlink(missing_ok=True)


def _mark(folder: str, token: str) -> Path:
    return Path(folder, f".driver-{token}")


def _leave_mark(folder: Path, token: str) -> Path:
    """Says in the folder whose it is, instead of drivers that were killed: it has one at a time."""
    for left in folder.glob(_mark("", "*").name):
        left.unlink()
    mark = _mark(str(folder), token)
    mark.touch()
    return mark


@dataclass(frozen=True)
class ServedFolder(FileSystemHandler):  # type: ignore[misc]
    """A folder on the driver's machine, from wherever this object is unpickled: see ``served``.

    Args:
        folder: as the driver calls it.
        token: of this driver; a folder without its mark is another one of that name.
        node: the id of the driver's node.
    """

    folder: str
    token: str
    node: str

    def __reduce__(self) -> Any:
        return ServedFolder, (self.folder, self.token, self.node)  # what was found out here may not hold there

    @cached_property
    def is_here(self) -> bool:
        """Whether this process reaches the folder itself."""
        return _mark(self.folder, self.token).is_file()

    @cached_property
    def _server(self) -> Any:
        """The actor on the driver's node. It ends with the worker that started it; the next one starts another."""
        server: Any = ray.remote(FolderServer)
        return server.options(
            name=self.token,
            namespace=_NAMESPACE,
            get_if_exists=True,
            num_cpus=0,
            scheduling_strategy=NodeAffinitySchedulingStrategy(self.node, soft=False),
        ).remote(self.folder)

    @cached_property
    def _disk(self) -> Any:
        return LocalFileSystem()

    def ask(self, what: str, *arguments: Any, **more: Any) -> Any:
        """What the server's method gives.

        Raises:
            OSError: what it raises there, or because it does not answer.
        """
        for left in reversed(range(_ATTEMPTS)):
            try:
                return ray.get(getattr(self._server, what).remote(*arguments, **more))
            except RayTaskError as error:
                raise error.cause from None
            except RayError as error:
                self.__dict__.pop("_server", None)
                if not left:
                    reason = str(error).strip().splitlines()[0]
                    raise OSError(f"{self.folder}: the driver's machine does not answer: {reason}") from error
        raise AssertionError("the last attempt returns or raises")

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
        return pyarrow.PythonFile(ServedReader(self.ask, path, about.size), mode="r")

    def open_output_stream(self, path: str, metadata: Any) -> Any:
        if self.is_here:
            return self._disk.open_output_stream(path, compression=None)
        return pyarrow.PythonFile(ServedWriter(self.ask, path), mode="w")

    def open_append_stream(self, path: str, metadata: Any) -> Any:
        raise io.UnsupportedOperation(f"{path}: files in the driver's folder are written once")


def _info(path: str, kind: int, size: int | None, mtime: int | None) -> FileInfo:
    return FileInfo(path, FileType(kind), size=size, mtime_ns=mtime)
