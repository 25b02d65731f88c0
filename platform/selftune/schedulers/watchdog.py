"""Ends what a cluster leaves behind when its driver is done with it, or dead.

Run as a script, ``python watchdog.py FOLDER DRIVER SESSION``, by the driver with its process id and that of its
session (as ``setsid`` makes them), which sets it apart from the cluster's processes. Once the driver has written
to this process's standard input, or is dead, every process of the cluster is ended and its folder removed.
Ray sees to most of its processes itself, but its agents, which wait for the cluster's control store to come back,
outlive a killed driver by more than half a minute.

Standard library only: a process that waits must not weigh as much as torch.
"""

from __future__ import annotations

import os
import select
import shutil
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path

PATIENCE = 5.0  # seconds until processes that do not even end when killed are left to the system
MARK = "SELFTUNE_CLUSTER"  # the variable that the processes of a cluster inherit: its folder
_LOOK_EVERY = 1.0  # seconds between two looks whether the driver lives


def main(folder: str, driver: int, driver_session: int) -> None:
    """Waits for the end of the driver, or its word, then ends the cluster of ``folder``."""
    for kind in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):  # they are for the driver, whose end is seen here
        signal.signal(kind, signal.SIG_IGN)
    # standard input ends with the driver, unless a process that it forked has the other end too
    while os.getppid() == driver and not select.select([0], [], [], _LOOK_EVERY)[0]:
        pass
    end(folder, driver_session)
    shutil.rmtree(folder, ignore_errors=True)


def end(folder: str, driver_session: int) -> None:
    """Kills every process of the cluster whose files are in ``folder``, and those that they start meanwhile."""
    deadline = time.monotonic() + PATIENCE
    while (found := list(members(folder, driver_session))) and time.monotonic() < deadline:
        for pid in found:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        time.sleep(0.05)


def members(folder: str, driver_session: int) -> Iterator[int]:
    """Processes that have inherited the cluster's mark, or have a file in its folder open for writing.

    The mark alone does not do: processes that give themselves a title overwrite what others see of their
    environment. Who only reads a log is no member. Nor is the driver, or what it has forked: they have its own
    logs of the cluster open, but are in its session, where no process of the cluster is.
    """
    for entry in Path("/proc").glob("[0-9]*"):
        if _is_marked(entry, folder) or (_session(entry) != driver_session and _writes(entry, folder)):
            yield int(entry.name)


def _is_marked(process: Path, folder: str) -> bool:
    try:
        return os.fsencode(f"{MARK}={folder}") in (process / "environ").read_bytes().split(b"\0")
    except OSError:  # another user's, or gone
        return False


def _session(process: Path) -> int | None:
    try:
        return os.getsid(int(process.name))
    except ProcessLookupError:
        return None


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
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
