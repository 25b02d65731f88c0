"""driver.json: which process runs what a folder holds, or ran it last; how others see whether it lives."""

from __future__ import annotations

import json
import os
import socket
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from selftune.storage.files import DamagedFile, replacing
from selftune.storage.process_identity import birth, namespace

DRIVER = "driver.json"
HEARTBEAT = 10.0
"""Seconds between two signs of life: the time when the file was changed last."""
SILENCE = 3 * HEARTBEAT
"""Seconds without one after which a process on another machine counts as dead."""


@dataclass(frozen=True)
class DriverRecord:
    """A process that runs, or ran, what a folder holds.

    Args:
        host: its machine.
        process: its number there.
        namespace: in which that number means something: the machine since its start, and the container.
        birth: when it began, in the clock ticks of its machine: numbers are used again.
        began: seconds since 1970.
        ended: how it ended; empty while it runs, and for ever if it was killed.

    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp())
    >>> write_driver(folder, this_process())
    >>> record = read_driver(folder)
    >>> record.process == os.getpid(), lives(record, folder)
    (True, True)
    """

    host: str
    process: int
    namespace: str
    birth: str
    began: float
    ended: str = ""


def this_process() -> DriverRecord:
    """The record of the process that calls."""
    process = os.getpid()
    return DriverRecord(socket.gethostname(), process, namespace(), birth(process), time.time())


def write_driver(folder: Path, record: DriverRecord) -> None:
    """Writes the record.

    Raises:
        OSError: if it cannot be written.
    """
    with replacing(folder / DRIVER) as temporary:
        temporary.write_text(json.dumps(asdict(record), indent=2) + "\n", encoding="utf-8")


def read_driver(folder: Path) -> DriverRecord | None:
    """The record of the process that runs, or ran, what a folder holds; None if none has yet.

    Raises:
        DamagedFile: if the file is not what was written.
    """
    path = folder / DRIVER
    try:
        return DriverRecord(**json.loads(path.read_bytes()))
    except FileNotFoundError:
        return None
    except (ValueError, TypeError) as error:
        raise DamagedFile(f"{path}: is damaged, or was written by another version of selftune") from error


def lives(record: DriverRecord, folder: Path) -> bool:
    """Whether a driver runs.

    On its own machine the system knows. On another one, where folders are shared, a driver counts as dead once its
    last sign of life is older than ``SILENCE``, by the clocks of both machines.
    """
    if record.ended:
        return False
    if record.namespace and record.namespace == namespace():
        return birth(record.process) == record.birth
    try:
        return time.time() - (folder / DRIVER).stat().st_mtime < SILENCE
    except FileNotFoundError:
        return False


def ended(record: DriverRecord, how: str) -> DriverRecord:
    """The record of a driver that has come to an end."""
    return replace(record, ended=how)
