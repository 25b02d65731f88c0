"""Copies the folder of a run to a store, from a thread beside it: the run never waits for the store.

At every moment the store holds what a run would leave that was killed some seconds ago: what a file relies on is
there before the file is, and what nothing relies on any more goes last.
"""

from __future__ import annotations

import logging
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

from selftune.storage.capture import KINDS, CapturedFile, Signature, belongs, capture, signature
from selftune.storage.lag import forget_lag, note_whole
from selftune.storage.lease import LeaseLost
from selftune.storage.remote_folder import RemoteFolder

logger = logging.getLogger(__name__)

EVERY = 5.0
"""Seconds between two looks at what has changed."""
_LONGEST = 60.0  # seconds between two attempts while the store is away
_AT_ONCE = 4  # files


class Mirror:
    """Brings to a store what changes in a folder.

    Args:
        folder: on this machine.
        remote: in the store.
        check: is called before anything is written; raises ``LeaseLost`` if it may not be any more.
        known: files that the store has as they are here.
        every: seconds between two looks.

    Attributes:
        error: why the last attempt did not get to its end; None if it did.
        lost: that another process has taken the folder over; nothing is written any more then.

    >>> folder = Path(tempfile.mkdtemp())
    >>> remote = RemoteFolder("memory://example/mirror")
    >>> mirror = Mirror(folder, remote)
    >>> _ = (folder / "summary.json").write_text("{}")
    >>> mirror.bring()
    >>> [*remote.files()]
    ['summary.json']
    """

    def __init__(
        self,
        folder: Path,
        remote: RemoteFolder,
        check: Callable[[], None] = lambda: None,
        known: Iterable[str] = (),
        every: float = EVERY,
    ) -> None:
        self._folder, self._remote, self._check, self._every = folder, remote, check, every
        self._known: dict[str, Signature] = {}
        for name in known:
            with suppress(FileNotFoundError):
                self._known[name] = signature(folder / name)
        self._there: set[str] | None = None
        self.error: OSError | None = None
        self.lost: LeaseLost | None = None
        self._since: float | None = None
        self._wake, self._ended = threading.Event(), threading.Event()
        self._is_closing = self._is_complete = self._is_over = False

    def start(self) -> None:
        """Begins to look, from a thread."""
        threading.Thread(target=self._run, name="mirror", daemon=True).start()

    def finish(self, seconds: float) -> bool:
        """Waits until the store has all that the folder holds now, so many seconds at most; whether it has.

        Nothing is copied afterwards.
        """
        self._is_closing = True
        self._wake.set()
        self._ended.wait(seconds)
        self._is_over = True
        self._wake.set()
        return self._is_complete

    def bring(self) -> None:
        """Brings over what has changed.

        Raises:
            LeaseLost: if that may not be done any more.
            OSError: if the store does not answer or refuses, or a file cannot be read.
        """
        if self._there is None:
            self._there = {name for name in self._remote.files() if belongs(name)}
        with tempfile.TemporaryDirectory(prefix=f".{self._folder.name}.", dir=self._folder.parent) as place:
            found = capture(self._folder, Path(place), self._known)
            with ThreadPoolExecutor(_AT_ONCE) as pool:
                for kind in reversed(range(KINDS)):
                    for _ in pool.map(self._upload, [one for one in found.changed if one.kind == kind]):
                        pass
                gone = self._there - found.names
                folders = _emptied(gone, found.names)
                for _ in pool.map(self._delete_folder, folders):
                    pass
                single = [name for name in gone if folders.isdisjoint(_folders_of(name))]
                for _ in pool.map(self._delete, single):
                    pass
        self._there -= gone
        self._known = {name: mark for name, mark in self._known.items() if name in self._there}

    def _upload(self, file: CapturedFile) -> None:
        self._allowed()
        self._remote.upload(file.name, file.path, file.size)
        self._known[file.name] = file.signature
        assert self._there is not None
        self._there.add(file.name)

    def _delete(self, name: str) -> None:
        self._allowed()
        self._remote.delete(name)

    def _delete_folder(self, name: str) -> None:
        self._allowed()
        self._remote.delete_folder(name)

    def _allowed(self) -> None:
        if self._is_over:
            raise LeaseLost(f"{self._remote.shown}: is not written any more")
        if self.lost is not None:
            raise self.lost
        self._check()

    def _run(self) -> None:
        try:
            wait = self._every
            with suppress(OSError):
                note_whole(self._folder, time.time())  # what is there now is what the store has, or soon will
            while not self._is_complete:
                self._wake.wait(wait)
                self._wake.clear()
                is_last = self._is_closing  # what comes later is not waited for
                began = time.time()
                try:
                    self.bring()
                    note_whole(self._folder, began)
                except OSError as error:
                    self._away(error)
                    wait = self._every if self._is_closing else min(2 * wait, _LONGEST)
                else:
                    self._back()
                    wait = 0.0 if self._is_closing else self._every
                    self._is_complete = is_last
            forget_lag(self._folder)
        except LeaseLost as error:
            if not self._is_over:
                self.lost = error
        finally:
            self._ended.set()

    def _away(self, error: OSError) -> None:
        if self._since is None:
            self._since = time.monotonic()
            logger.warning("%s; the run goes on, and what it writes is kept in %s", error, self._folder)
        self.error = error

    def _back(self) -> None:
        if self._since is not None:
            logger.warning(
                "%s: answers again after %.0f seconds, and has all of the run",
                self._remote.shown,
                time.monotonic() - self._since,
            )
        self._since = self.error = None


def _emptied(gone: set[str], names: set[str]) -> set[str]:
    """The outermost folders in which nothing is left: stores keep a trace of each file that is removed alone.

    >>> sorted(_emptied({"a/b/1", "a/b/2", "a/c/1", "d/1"}, {"a/c/2"}))
    ['a/b', 'd']
    """
    kept = {folder for name in names for folder in _folders_of(name)}
    outermost = (next((folder for folder in _folders_of(name) if folder not in kept), None) for name in gone)
    return {folder for folder in outermost if folder is not None}


def _folders_of(name: str) -> list[str]:
    """The folders in which a file is, the outermost first.

    >>> _folders_of("a/b/1")
    ['a', 'a/b']
    """
    parts = name.split("/")[:-1]
    return ["/".join(parts[: length + 1]) for length in range(len(parts))]


def fetch(remote: RemoteFolder, folder: Path, wanted: Callable[[str], bool] = belongs) -> list[str]:
    """Brings what a store holds to this machine; what else the folder held is removed.

    Args:
        wanted: which files, by their names.

    Returns:
        The names of the files.

    Raises:
        OSError: if the store does not answer or refuses, or the folder cannot be written.
    """
    names = [name for name in remote.files() if wanted(name)]
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        for _ in pool.map(lambda name: remote.download(name, folder / name), names):
            pass
    return names
