"""A folder of an object store or another file system, by its address: ``s3://``, ``gs://``, ``az://`` and others.

What is written appears at once and whole, or not at all. Stores of objects do so by themselves; of others, a file
gets its name once it is complete. Deleting and writing change one file each: what has to change together is up to
the order in which it is written.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, TYPE_CHECKING, Any

from selftune.errors import SettingError
from selftune.storage.address import hide, without_password
from selftune.storage.files import replacing

if TYPE_CHECKING:
    from pyarrow.fs import FileInfo, FileSystem

_CHUNK = 8 * 2**20
_WHOLE_AT_ONCE = ("s3", "gcs", "abfs")
"""File systems of pyarrow in which a file that is being written has no name before it is complete."""
_REASONS = (  # what the libraries of the stores say, and what that means
    ("NO_SUCH_BUCKET", "there is no such bucket"),
    ("NoSuchBucket", "there is no such bucket"),
    ("ACCESS_DENIED", "access is denied; set credentials that may read and write there"),
    ("HTTP status 403", "access is denied; set credentials that may read and write there"),
    ("INVALID_ACCESS_KEY_ID", "the credentials are not known there"),
    ("SIGNATURE_DOES_NOT_MATCH", "the credentials are not those of this store"),
    ("Unable to locate credentials", "no credentials are set"),
    ("Could not create a OAuth2 access token", "no credentials are set"),
    ("Failed to get token", "no credentials are set"),
    ("valid account name", "names no account; write abfs://CONTAINER@ACCOUNT.dfs.core.windows.net/PATH"),
    ("NETWORK_CONNECTION", "the store does not answer"),
    ("Could not resolve", "the store's name is not known"),
)


@dataclass(frozen=True)
class RemoteFile:
    """What a store says of a file.

    Args:
        size: in bytes.
        changed: when it was written, in seconds of the store's clock; None where the store does not say.
    """

    size: int
    changed: float | None


def is_address(text: str) -> bool:
    """Whether a text is an address, such as ``s3://bucket/path``, rather than a path of this machine.

    >>> is_address("s3://bucket/digits-1"), is_address("runs/digits-1")
    (True, False)
    """
    return re.match(r"[A-Za-z][A-Za-z0-9+.-]*://", text) is not None


class RemoteFolder:
    """The folder at an address; made by the first file that is written to it.

    Args:
        address: with a scheme that pyarrow or fsspec knows. It may hold what is secret; nothing that is raised or
            shown does.

    Attributes:
        shown: the address without what is secret in it.

    Raises:
        SettingError: if there is no such scheme, its package is missing, or the address names no folder.

    >>> folder = RemoteFolder("memory://example/digits-1")
    >>> folder.write("notes/one.txt", b"hello")
    >>> folder.read("notes/one.txt"), [*folder.files()]
    (b'hello', ['notes/one.txt'])
    """

    def __init__(self, address: str) -> None:
        self.address = address
        self.shown = without_password(self.address)
        self._system, path = _system_of(self.address, self.shown)
        # Of fsspec; pyarrow asks it such that one that does not answer looks empty.
        self._other = getattr(getattr(self._system, "handler", None), "fs", None)
        self._root = path.strip("/") if self._is_store or not path.startswith("/") else path.rstrip("/")
        if not self._root:
            raise SettingError(self.shown, "names no folder; give one, such as s3://bucket/digits-1")

    @property
    def name(self) -> str:
        """The last part of the address."""
        return PurePosixPath(self._root).name

    @property
    def _is_store(self) -> bool:
        return self._system.type_name in _WHOLE_AT_ONCE

    def files(self, below: str = "") -> dict[str, RemoteFile]:
        """All files, by their path below the folder; empty if there is no such folder.

        Args:
            below: only those in this folder of it.

        Raises:
            OSError: if the store does not answer, or refuses.
        """
        place = self._path(below) if below else self._root
        with self._speaking():
            found = self._listed(place) if self._other is None else _walked(self._other, place)
        return {path[len(self._root) + 1 :]: file for path, file in found.items()}

    def _listed(self, place: str) -> dict[str, RemoteFile]:
        from pyarrow.fs import FileSelector, FileType

        found = self._system.get_file_info(FileSelector(place, recursive=True, allow_not_found=True))
        return {one.path: RemoteFile(one.size, _time_of(one)) for one in found if one.type == FileType.File}

    def read(self, name: str) -> bytes:
        """The content of a file.

        Raises:
            FileNotFoundError: if there is none.
            OSError: if the store does not answer, or refuses.
        """
        with self._speaking(), self._reading(name) as stream:
            content: bytes = stream.read()
        return content

    def write(self, name: str, content: bytes) -> None:
        """Replaces a file.

        Raises:
            OSError: if the store does not answer, or refuses.
        """
        with self._speaking(), self._writing(name) as stream:
            stream.write(content)

    def upload(self, name: str, path: Path, size: int) -> None:
        """Replaces a file by the first ``size`` bytes of one on this machine.

        Raises:
            OSError: if the store does not answer, or refuses, or the file is shorter or cannot be read.
        """
        with self._speaking(), path.open("rb") as source, self._writing(name) as stream:
            for chunk in _chunks(source, size):
                stream.write(chunk)

    def download(self, name: str, path: Path) -> None:
        """Brings a file to this machine, whole or not at all.

        Raises:
            FileNotFoundError: if there is none.
            OSError: if the store does not answer, or refuses, or the file cannot be written.
        """
        path.parent.mkdir(parents=True, exist_ok=True)
        with (
            replacing(path, durable=False) as temporary,
            self._speaking(),
            self._reading(name) as stream,
            temporary.open("wb") as target,
        ):
            while chunk := stream.read(_CHUNK):
                target.write(chunk)

    def delete(self, name: str) -> None:
        """Removes a file, if it is there.

        Raises:
            OSError: if the store does not answer, or refuses.
        """
        with self._speaking(), suppress(FileNotFoundError):
            self._system.delete_file(self._path(name))

    def delete_folder(self, name: str) -> None:
        """Removes a folder with all that it holds, if it is there.

        Raises:
            OSError: if the store does not answer, or refuses.
        """
        with self._speaking(), suppress(FileNotFoundError):
            self._system.delete_dir(self._path(name))

    def _path(self, name: str) -> str:
        return f"{self._root}/{name}"

    def _reading(self, name: str) -> Any:
        path = self._path(name)
        return self._system.open_input_stream(path) if self._other is None else self._other.open(path, "rb")

    @contextmanager
    def _writing(self, name: str) -> Iterator[Any]:
        path = self._path(name)
        if self._is_store:
            with self._system.open_output_stream(path) as stream:
                yield stream
            return
        folder, _, last = path.rpartition("/")
        temporary = f"{folder}/.{last}.partial"
        self._system.create_dir(folder, recursive=True)
        with self._system.open_output_stream(temporary) as stream:
            yield stream
        self._system.move(temporary, path)

    @contextmanager
    def _speaking(self) -> Iterator[None]:
        """Errors of the libraries as one sentence, without what is secret in the address."""
        try:
            yield
        except FileNotFoundError:
            raise
        except Exception as error:  # every file system of fsspec has errors of its own
            if isinstance(error, OSError) and error.filename:  # of this machine
                raise
            raise OSError(f"{self.shown}: {_reason(error, self.address)}") from None


def _system_of(address: str, shown: str) -> tuple[FileSystem, str]:
    from pyarrow.fs import FileSystem

    try:
        return FileSystem.from_uri(address)  # type: ignore[no-any-return]
    except Exception as error:  # noqa: BLE001  (pyarrow's, or of a package for a scheme of its own)
        if "Unrecognized filesystem type" not in str(error):
            raise SettingError(shown, _reason(error, address)) from None
    return _of_fsspec(address, shown)


def _of_fsspec(address: str, shown: str) -> tuple[FileSystem, str]:
    import fsspec
    from pyarrow.fs import FSSpecHandler, PyFileSystem

    scheme = address.partition(":")[0].lower()
    try:
        system, path = fsspec.core.url_to_fs(address)
    except ImportError as error:
        package = next(iter(re.findall(r"[Ii]nstall (?:the )?[`'\"]?([\w-]+)", str(error))), "")
        needs = f"the package {package}" if package else "a package that is missing"
        raise SettingError(shown, f"{scheme}:// needs {needs}; install it with pip") from None
    except Exception as error:  # noqa: BLE001  (every file system of fsspec has errors of its own)
        if isinstance(error, ValueError) and "rotocol not known" in str(error):
            known = "s3://, gs://, az:// and what else fsspec knows"
            raise SettingError(shown, f"{scheme}:// is no known kind of storage; known are {known}") from None
        raise SettingError(shown, _reason(error, address)) from None
    return PyFileSystem(FSSpecHandler(system)), path


def _reason(error: Exception, address: str) -> str:
    said = str(error).strip()
    for sign, reason in _REASONS:
        if sign in said:
            return reason
    return hide((said.splitlines() or [type(error).__name__])[0], address)


def _walked(system: Any, place: str) -> dict[str, RemoteFile]:
    """The files in a folder of a file system of fsspec, by their whole paths."""
    system.invalidate_cache()
    found = {}
    with suppress(FileNotFoundError):
        for _, _, files in system.walk(place, detail=True, on_error="raise"):
            for one in files.values():
                found[one["name"]] = RemoteFile(one["size"], None)
    return found


def _chunks(source: IO[bytes], size: int) -> Iterator[bytes]:
    left = size
    while left:
        chunk = source.read(min(left, _CHUNK))
        if not chunk:
            raise OSError(f"{source.name}: is shorter than it was")
        left -= len(chunk)
        yield chunk


def _time_of(info: FileInfo) -> float | None:
    return None if info.mtime_ns is None else info.mtime_ns / 1e9
