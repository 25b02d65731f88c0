"""Asks the driver of a study to end in order, before its pod goes: ``python -m`` in a preStop hook.

Ray's processes end at once when the pod is told to, and the driver would go with them. Told before, it finishes
its hyper-step, saves and brings everything to the store, as after any SIGTERM.
"""

from __future__ import annotations

import argparse
import os
import signal
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

_STUDY = "/etc/selftune/study/"
_LOOK = 0.2  # seconds between two looks


def main(arguments: Sequence[str] | None = None) -> int:
    """Sends SIGTERM to the drivers and waits for their end; the status is 0 whatever they do."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--grace", type=float, required=True, help="seconds to wait for the end")
    options = parser.parse_args(arguments)
    end_drivers(Path("/proc"), options.grace)
    return 0


def end_drivers(processes: Path, grace: float) -> bool:
    """Sends SIGTERM to every driver of a pod's study; whether all have ended within ``grace`` seconds."""
    drivers = [int(entry.name) for entry in processes.iterdir() if entry.name.isdigit() and _drives(entry)]
    for driver in drivers:
        with suppress(ProcessLookupError):  # it has ended meanwhile
            os.kill(driver, signal.SIGTERM)
    until = time.monotonic() + grace
    while left := [driver for driver in drivers if _drives(processes / str(driver))]:
        if time.monotonic() > until:
            return False
        time.sleep(_LOOK)
    return not left


def _drives(process: Path) -> bool:
    """Whether a process is ``python .../selftune run STUDY``; the shell that Ray starts it by is not."""
    try:
        words = (process / "cmdline").read_bytes().split(b"\0")
    except OSError:  # it has ended, or is somebody else's
        return False
    return (
        len(words) > 3
        and words[1].endswith(b"/selftune")
        and words[2] == b"run"
        and words[3].startswith(_STUDY.encode())
    )


if __name__ == "__main__":
    raise SystemExit(main())
