"""A folder in which processes of one machine meet, and which does not outlive them, whatever ends them."""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from pathlib import Path

_PREFIX = "selftune-workers-"
_LOCK = "lock"


class MeetingFolder:
    """A new folder among those for temporary files. Those of processes that were killed are removed first.

    Attributes:
        path: of the folder, which only this user can open.

    >>> folder = MeetingFolder()
    >>> folder.path.is_dir()
    True
    >>> folder.remove()
    >>> folder.path.exists()
    False
    """

    def __init__(self) -> None:
        place = Path(tempfile.gettempdir())
        for left in place.glob(f"{_PREFIX}*"):
            _remove_if_left(left)
        made = Path(tempfile.mkdtemp(prefix=f".{_PREFIX}"))
        self._lock = os.open(made / _LOCK, os.O_RDWR | os.O_CREAT)
        fcntl.flock(self._lock, fcntl.LOCK_EX)  # until this process ends
        self.path = made.rename(place / made.name.removeprefix("."))  # seen by others only now

    def remove(self) -> None:
        """Removes it; once is enough."""
        if self._lock >= 0:
            shutil.rmtree(self.path, ignore_errors=True)
            os.close(self._lock)
            self._lock = -1


def _remove_if_left(folder: Path) -> None:
    """Removes the folder of a process that has ended."""
    try:
        lock = os.open(folder / _LOCK, os.O_RDWR)
    except OSError:  # somebody else's, or gone meanwhile
        return
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        shutil.rmtree(folder, ignore_errors=True)
    except BlockingIOError:  # in use
        pass
    finally:
        os.close(lock)
