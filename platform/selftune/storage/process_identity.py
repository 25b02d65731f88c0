"""Which process is meant by a number, among all machines and over all time."""

from __future__ import annotations

import os
from pathlib import Path

_ENDED = ("Z", "X", "x")  # states of a process: a zombie, or dead


def namespace() -> str:
    """Where numbers of processes mean the same: the machine since its start, and the container.

    Empty where the system does not say.
    """
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return ""


def birth(process: int) -> str:
    """When a process began, in clock ticks of its machine; empty if there is none of this number.

    One that has ended is none, also where nobody has asked for its status, as in containers without an init.
    """
    try:
        # the name, in brackets, may hold spaces and brackets
        fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
        return "" if fields[0] in _ENDED else fields[19]
    except (OSError, IndexError):
        return ""
