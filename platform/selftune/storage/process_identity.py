"""Which process is meant by a number, among all machines and over all time."""

from __future__ import annotations

import os
from pathlib import Path


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
    """When a process began, in clock ticks of its machine; empty if there is none of this number."""
    try:
        # the name, in brackets, may hold spaces and brackets
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        return ""
