"""Files that are either the old version or the new one, never half of each."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_LEFTOVER = re.compile(r"\..+\.(\d+)\.partial")


class DamagedFile(ValueError):
    """A file is not what selftune wrote; the message names it and says what to do, in one sentence."""


@contextmanager
def replacing(path: Path, durable: bool = True) -> Iterator[Path]:
    """A path to write to; when the block ends well, what was written takes the place of ``path`` at once.

    File and name are on the disk, not only with the operating system, when this returns: what is done next may
    rely on it even if the power fails. Not ``durable``, they are with the operating system, which costs no wait.

    Raises:
        OSError: if the folder cannot be written, or the block raises it; names ``path`` where it names nothing.

    >>> import tempfile
    >>> target = Path(tempfile.mkdtemp()) / "notes.txt"
    >>> with replacing(target) as temporary:
    ...     _ = temporary.write_text("whole")
    >>> target.read_text()
    'whole'
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        yield temporary
        if durable:
            sync(temporary)
        os.replace(temporary, path)
        if durable:
            sync(path.parent)
    except OSError as error:
        error.filename = error.filename or str(path)
        raise
    finally:
        temporary.unlink(missing_ok=True)


def sync(path: Path) -> None:
    """Waits until a file, or the names in a folder, are on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (
            errno.EINVAL,
            errno.ENOTSUP,
        ):  # a file system that knows no such promise for folders
            raise
    finally:
        os.close(descriptor)


def write_all(descriptor: int, content: bytes) -> None:
    """Writes every byte, or raises: the operating system may take a part of what it is given.

    Raises:
        OSError: if the disk is full, or fails; a part may have been written.
    """
    left = memoryview(content)
    while left:
        written = os.write(descriptor, left)
        if not written:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        left = left[written:]


def is_leftover(path: Path) -> bool:
    """Whether ``replacing`` of a process that was killed has left this file."""
    match = _LEFTOVER.fullmatch(path.name)
    return match is not None and not _lives(int(match[1]))


def remove_leftovers(folder: Path) -> None:
    """Removes what ``replacing`` of a killed process left in a folder and those inside it."""
    for path in folder.rglob(".*.partial"):
        if is_leftover(path):
            path.unlink(missing_ok=True)


def _lives(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        return True
    return True
