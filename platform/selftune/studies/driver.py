"""The process that runs what a folder holds: it alone does; others see that it lives, and may ask it to stop."""

from __future__ import annotations

import fcntl
import math
import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from selftune.errors import Stopped
from selftune.logs import WorkerLog
from selftune.studies.driver_record import DRIVER, HEARTBEAT, ended, this_process, write_driver
from selftune.studies.mistakes import UserError

LOCK = ".lock"
REQUEST = "stop.request"
"""A file that asks the driver to stop; shared folders carry it from one machine to another."""
_LOOK = 1.0  # seconds between two looks for a request


@dataclass(frozen=True)
class DriverSettings:
    """How a driver answers and what it says.

    Args:
        grace: seconds that a hyper-step may take to its end after SIGTERM. Kubernetes kills 30 seconds after it,
            and what is written at the end takes some, too.
        log_level: the lowest that is logged, of ``LEVELS``.
    """

    grace: float = 20.0
    log_level: str = "info"


class Driver:
    """This process, as the one that runs what a folder holds.

    Args:
        folder: where requests to stop arrive.
        settings: how it answers.
        within: of a run that this one is a part of; what stops that one stops this one.

    Attributes:
        status: exit status that says who asked it to stop; None as long as nobody did.
        until: when the grace period is over, by ``time.monotonic``.
    """

    def __init__(self, folder: Path, settings: DriverSettings, within: Driver | None = None) -> None:
        self.folder = folder
        self.settings = settings
        self.within = within
        self.status: int | None = None
        self.until = math.inf
        self._next_look = 0.0

    def worker_log(self, study: str) -> WorkerLog:
        """How the workers of a run log."""
        return WorkerLog(str(self.folder.resolve()), self.settings.log_level, study)

    def asked(self) -> bool:
        """Whether it is to stop; between two looks at the folder a second passes."""
        if self.status is None and time.monotonic() >= self._next_look:
            self._next_look = time.monotonic() + _LOOK
            if (self.folder / REQUEST).exists():
                self.status = 0
            elif self.within is not None and self.within.asked():
                self.status, self.until = self.within.status, self.within.until
        return self.status is not None

    @contextmanager
    def finishing(self) -> Iterator[None]:
        """Within the context SIGTERM asks to stop, and what was begun goes on to its end.

        It becomes what SIGTERM is outside once the grace period is over, or with a second one.

        Raises:
            Stopped: as the block raises it, with the exit status.
        """
        try:
            with self._patient():
                yield
        except Stopped as stopped:
            stopped.status, stopped.until = self.status or 0, self.until
            raise

    @contextmanager
    def _patient(self) -> Iterator[None]:
        if threading.current_thread() is not threading.main_thread():  # where Python hears no signals
            yield
            return
        before = signal.getsignal(signal.SIGTERM)
        over = threading.Timer(self.settings.grace, os.kill, (os.getpid(), signal.SIGTERM))
        over.daemon = True

        def terminate(number: int, frame: FrameType | None) -> None:
            self.status, self.until = 128 + number, time.monotonic() + self.settings.grace
            signal.signal(number, before)
            over.start()

        signal.signal(signal.SIGTERM, terminate)
        try:
            yield
        finally:
            over.cancel()
            signal.signal(signal.SIGTERM, before)


@contextmanager
def held(folder: Path, settings: DriverSettings | None = None, within: Driver | None = None) -> Iterator[Driver]:
    """Keeps other processes from running what the same folder holds meanwhile.

    ``driver.json`` says which process it is, and how it ended; while it runs, the file's time is never older than
    ten seconds.

    Args:
        settings, within: see ``Driver``; None for the usual ones.

    Raises:
        UserError: if another process runs it.
    """
    with (folder / LOCK).open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise UserError(f"{folder}: another process is running this study; wait until it is done") from error
        (folder / REQUEST).unlink(missing_ok=True)  # it was for a driver that is gone
        record = this_process()
        write_driver(folder, record)
        how = "failed"
        try:
            with _heart(folder / DRIVER):
                yield Driver(folder, settings or DriverSettings(), within)
            how = "finished"
        except Stopped:
            how = "stopped"
            raise
        except KeyboardInterrupt:
            how = "interrupted"
            raise
        finally:
            (folder / REQUEST).unlink(missing_ok=True)
            write_driver(folder, ended(record, how))


@contextmanager
def _heart(path: Path) -> Iterator[None]:
    """Renews a file's time while the context lasts."""
    over = threading.Event()

    def beat() -> None:
        while not over.wait(HEARTBEAT):
            with suppress(OSError):  # a network drive that is away for a while
                os.utime(path)

    thread = threading.Thread(target=beat, name="heartbeat", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
