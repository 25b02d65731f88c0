"""The right of one process to write into a remote folder, which no other has meanwhile.

Stores have no locks. Whoever wants the right writes an object of its own below ``.lease`` and looks only then who
else has one: of two who come at once, one at least sees the other. The owner renews its object again and again;
one that was not renewed for a while is of a process that is gone, and is taken over. The new owner's object names
those that it took over, so that an owner that was away for long, and comes back, learns that it is none any more.
"""

from __future__ import annotations

import json
import logging
import os
import random
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field, replace

from selftune.errors import SettingError
from selftune.storage.process_identity import birth, namespace
from selftune.storage.remote_folder import RemoteFile, RemoteFolder

logger = logging.getLogger(__name__)

FOLDER = ".lease"
STOP = "stop.request"
"""An object beside those of the owners, by which somebody asks the owner to stop."""
RENEWAL = 5.0
"""Seconds between two renewals."""
SILENCE = 30.0
"""Seconds without a renewal after which the right may be taken over."""
_ATTEMPTS = 5


class LeaseLost(RuntimeError):
    """Another process took the folder over while this one could not renew its right."""


@dataclass(frozen=True)
class Claim:
    """What an owner, or who wants to become one, says of itself.

    Args:
        token: a name of its own.
        host, process, namespace, birth: which process it is.
        written: when it was renewed last, in seconds since 1970 by its own clock.
        owns: whether it has the right already.
        took: tokens of owners that it took over from.
    """

    token: str
    host: str
    process: int
    namespace: str
    birth: str
    written: float
    owns: bool = False
    took: list[str] = field(default_factory=list)

    @property
    def file(self) -> str:
        """Its object."""
        return f"{FOLDER}/{self.token}.json"


class Lease:
    """The right of this process, from ``acquire`` to ``release``.

    Args:
        folder: that is written into.
        wait: sleeps for so many seconds.

    >>> folder = RemoteFolder("memory://example/lease")
    >>> lease = Lease(folder)
    >>> lease.acquire()
    >>> Lease(folder).acquire()  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    selftune.errors.SettingError: memory://example/lease: another process runs it: process ...
    >>> lease.release()
    """

    def __init__(self, folder: RemoteFolder, wait: Callable[[float], None] = time.sleep) -> None:
        self._folder, self._wait = folder, wait
        process = os.getpid()
        self._claim = Claim(
            uuid.uuid4().hex, socket.gethostname(), process, namespace(), birth(process), time.time()
        )
        self._renewed = time.monotonic()
        self._lock = threading.RLock()  # whoever renews, others wait for it

    @property
    def token(self) -> str:
        """What distinguishes this owner from all others."""
        return self._claim.token

    def acquire(self) -> None:
        """Gets the right.

        Raises:
            SettingError: if another process has it.
            OSError: if the store does not answer, or refuses.
        """
        for attempt in range(1, _ATTEMPTS + 1):
            self._write(replace(self._claim, written=time.time()))
            others, gone = self._others()
            if not others:
                self._write(replace(self._claim, written=time.time(), owns=True, took=gone))
                return
            self._folder.delete(self._claim.file)
            owner = next((one for one in others if one.owns), None)
            if owner is not None or attempt == _ATTEMPTS:
                one = owner or others[0]
                raise SettingError(
                    self._folder.shown,
                    f"another process runs it: process {one.process} on {one.host}; wait until it is done, or"
                    f" stop it with `selftune stop {self._folder.shown}`",
                )
            self._wait(random.uniform(0.1, 1.0))

    def outlive(self) -> None:
        """Waits while an owner on another machine may be gone: until it is, or shows that it lives.

        Raises:
            OSError: if the store does not answer, or refuses.
        """
        silent: dict[str, object] = {}
        until = time.monotonic() + SILENCE
        while time.monotonic() < until:
            there = claims(self._folder)
            owners = {
                name: (claim, file.changed or claim.written)
                for name, (claim, file) in there.items()
                if claim.owns and not _is_here(claim) and lives(claim, file)
            }
            if any(silent.get(name, written) != written for name, (_, written) in owners.items()):
                return  # it was renewed
            if not owners:
                return
            if not silent:
                claim, _ = next(iter(owners.values()))
                logger.warning(
                    "%s: process %d on %s had it some seconds ago; waiting whether it lives, %d seconds at most",
                    self._folder.shown,
                    claim.process,
                    claim.host,
                    SILENCE,
                )
            silent = {name: written for name, (_, written) in owners.items()}
            self._wait(1.0)

    def renew(self) -> bool:
        """Says that this process lives; returns whether somebody asks it to stop.

        Raises:
            LeaseLost: if another one took over.
            OSError: if the store does not answer.
        """
        with self._lock:
            there = claims(self._folder)
            taken = any(self.token in claim.took for claim, _ in there.values())
            if taken or self._claim.file not in there:
                raise LeaseLost(
                    f"{self._folder.shown}: another process went on with it while this one did not reach the store"
                )
            for claim, _ in there.values():
                if claim.token in self._claim.took:  # it has come back, and renewed its right before it looked
                    self._folder.delete(claim.file)
            self._write(replace(self._claim, written=time.time()))
            return is_asked(self._folder)

    def check(self) -> None:
        """Makes sure that the right is this process's still, before something is written.

        Raises:
            LeaseLost: if another one took over.
            OSError: if the store does not answer.
        """
        with self._lock:
            if time.monotonic() - self._renewed > SILENCE / 2:
                self.renew()

    def release(self) -> None:
        """Gives the right back; if the store does not answer, others get it after ``SILENCE``."""
        with suppress(OSError):
            self._folder.delete(self._claim.file)

    @contextmanager
    def kept(self, asked: Callable[[], None], lost: Callable[[LeaseLost], None]) -> Iterator[None]:
        """Within the context the right is renewed, from a thread.

        Args:
            asked: is called when somebody asks the owner to stop.
            lost: is called when another process took over.
        """
        over = threading.Event()

        def beat() -> None:
            while not over.wait(RENEWAL):
                try:
                    if self.renew():
                        self._folder.delete(f"{FOLDER}/{STOP}")
                        asked()
                except LeaseLost as error:
                    lost(error)
                    return
                except OSError as error:
                    logger.debug("%s", error)

        thread = threading.Thread(target=beat, name="lease", daemon=True)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join(RENEWAL)  # a store that does not answer holds nobody up

    def _write(self, claim: Claim) -> None:
        self._claim, began = claim, time.monotonic()
        self._folder.write(claim.file, json.dumps(asdict(claim)).encode())
        self._renewed = began  # the store may have taken its time

    def _others(self) -> tuple[list[Claim], list[str]]:
        """Claims of processes that live, and tokens of those that are gone, which are removed."""
        there = claims(self._folder)
        mine = there.pop(self._claim.file, None)
        now = None if mine is None else mine[1].changed
        alive = [claim for claim, file in there.values() if lives(claim, file, now)]
        gone = [claim for claim, file in there.values() if claim not in alive]
        for claim in gone if not alive else ():
            self._folder.delete(claim.file)
        return alive, [claim.token for claim in gone]


def claims(folder: RemoteFolder) -> dict[str, tuple[Claim, RemoteFile]]:
    """What owners say, by the names of their objects.

    Raises:
        OSError: if the store does not answer, or refuses.
    """
    found = {}
    for name, file in folder.files(FOLDER).items():
        if not name.endswith(".json"):
            continue
        with suppress(FileNotFoundError, ValueError, TypeError):  # given back since, or of another version
            found[name] = Claim(**json.loads(folder.read(name))), file
    return found


def lives(claim: Claim, file: RemoteFile, now: float | None = None) -> bool:
    """Whether the process of a claim is there.

    Args:
        now: the time by the store's clock; None for that of this machine.
    """
    if _is_here(claim):
        return birth(claim.process) == claim.birth
    if file.changed is None:
        return time.time() - claim.written < SILENCE
    return (time.time() if now is None else now) - file.changed < SILENCE


def _is_here(claim: Claim) -> bool:
    """Whether it is of a process that this machine can look for."""
    return bool(claim.namespace) and claim.namespace == namespace()


def ask_to_stop(folder: RemoteFolder) -> None:
    """Asks the owner to stop.

    Raises:
        OSError: if the store does not answer, or refuses.
    """
    folder.write(f"{FOLDER}/{STOP}", b"")


def is_asked(folder: RemoteFolder) -> bool:
    """Whether somebody has asked the owner to stop."""
    return f"{FOLDER}/{STOP}" in folder.files(FOLDER)
