"""Ends what a cluster leaves behind when its driver is done with it, or dead.

Run as a script, ``python watchdog.py FOLDER``, by the driver, which keeps the other end of its standard input
open. Once that is closed, by the driver or by the system after it, every process of the cluster is ended and the
cluster's folder removed. Ray sees to most of its processes itself, but its agents, which wait for the cluster's
control store to come back, outlive a killed driver by more than half a minute.

Standard library only: a process that waits must not weigh as much as torch.
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
import time
from collections.abc import Container, Iterator
from pathlib import Path

PATIENCE = 5.0  # seconds until processes that do not even end when killed are left to the system


def main(folder: str) -> None:
    """Waits for the end of standard input, then ends the cluster of ``folder``."""
    for kind in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):  # they are for the driver, whose end is seen here
        signal.signal(kind, signal.SIG_IGN)
    driver = os.getppid()
    while os.read(0, 1):
        pass
    end(folder, spared={os.getpid(), driver})
    shutil.rmtree(folder, ignore_errors=True)


def end(folder: str, spared: Container[int] = ()) -> None:
    """Kills every process of the cluster whose files are in ``folder``, and those that they start meanwhile."""
    deadline = time.monotonic() + PATIENCE
    while (found := list(members(folder, spared))) and time.monotonic() < deadline:
        for pid in found:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        time.sleep(0.05)


def members(folder: str, spared: Container[int] = ()) -> Iterator[int]:
    """Processes that have the folder in their environment, or a file in it open for writing.

    The environment alone does not do: processes that give themselves a title overwrite what others see of it.
    Who only reads a log is no member.
    """
    for entry in Path("/proc").glob("[0-9]*"):
        pid = int(entry.name)
        if pid not in spared and (_inherits(entry, folder) or _writes(entry, folder)):
            yield pid


def _inherits(process: Path, folder: str) -> bool:
    try:
        return os.fsencode(f"={folder}/") in (process / "environ").read_bytes()
    except OSError:  # another user's, or gone
        return False


def _writes(process: Path, folder: str) -> bool:
    try:
        for descriptor in (process / "fd").iterdir():
            try:
                if str(descriptor.readlink()).startswith(f"{folder}/") and _for_writing(process, descriptor.name):
                    return True
            except OSError:  # closed meanwhile
                continue
    except OSError:
        return False
    return False


def _for_writing(process: Path, descriptor: str) -> bool:
    flags = (process / "fdinfo" / descriptor).read_text().split("flags:")[1].split()[0]
    return int(flags, 8) & os.O_ACCMODE != os.O_RDONLY


if __name__ == "__main__":
    main(sys.argv[1])
