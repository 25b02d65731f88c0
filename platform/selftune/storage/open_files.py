"""Files that are appended to for a long time, of which only some are open at a time."""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from collections.abc import Hashable, Iterator
from contextlib import contextmanager
from pathlib import Path


class OpenFiles:
    """Descriptors of files, by key. Once there are too many, the one that was not used for longest is closed.

    A process may have some thousand files open, often only 1,024. To open a file anew for each append would need
    none, but that takes a message to the server where the file is on a network drive.

    Args:
        most: descriptors that are kept open; at least 1.

    >>> import tempfile
    >>> files, folder = OpenFiles(most=1), Path(tempfile.mkdtemp())
    >>> for name in ("a", "b", "a"):
    ...     folder.joinpath(name).touch()
    ...     with files.appending(name, folder / name) as descriptor:
    ...         _ = os.write(descriptor, b"row")
    >>> len(files), folder.joinpath("a").read_bytes()
    (1, b'rowrow')
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._descriptors: OrderedDict[Hashable, int] = OrderedDict()
        self._lock = threading.RLock()

    def __len__(self) -> int:
        return len(self._descriptors)

    @contextmanager
    def appending(self, key: Hashable, path: Path) -> Iterator[int]:
        """A descriptor that appends to a file; other threads wait.

        Args:
            key: of the file; two that follow each other at one path have different ones.

        Raises:
            OSError: if the file is not there, or cannot be opened.
        """
        with self._lock:
            if key not in self._descriptors:
                while len(self._descriptors) >= self._most:
                    os.close(self._descriptors.popitem(last=False)[1])
                self._descriptors[key] = os.open(path, os.O_WRONLY | os.O_APPEND)
            self._descriptors.move_to_end(key)
            yield self._descriptors[key]

    def close(self, key: Hashable) -> None:
        """Closes the file of a key, if it is open."""
        with self._lock:
            descriptor = self._descriptors.pop(key, None)
            if descriptor is not None:
                os.close(descriptor)
