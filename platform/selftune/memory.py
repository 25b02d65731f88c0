"""How much memory there is for what somebody asks for."""

from __future__ import annotations

import os
from pathlib import Path

_CGROUP = Path("/sys/fs/cgroup/memory.max")


def machines_memory() -> int:
    """Bytes of memory that this machine has, or this container may use.

    >>> machines_memory() > 2**20
    True
    """
    total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    try:
        return min(total, int(_CGROUP.read_text()))
    except (OSError, ValueError):  # no container, or one without a bound: "max"
        return total
