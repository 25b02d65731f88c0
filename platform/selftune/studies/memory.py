"""A bound on memory while a study is checked, so that an absurd one is refused before the machine gives out."""

from __future__ import annotations

import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_CGROUP = Path("/sys/fs/cgroup/memory.max")


def machines_memory() -> int:
    """Bytes of memory that this machine has, or this container may use."""
    total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    try:
        return min(total, int(_CGROUP.read_text()))
    except (OSError, ValueError):  # no container, or one without a bound: "max"
        return total


@contextmanager
def within_memory(more: int | None = None) -> Iterator[None]:
    """Lets this process have no more than so many further bytes; by default what the machine has.

    The system promises more memory than there is and ends the process that uses it. Within the context what asks
    for too much is told so at once: torch raises RuntimeError, numpy and Python MemoryError.
    """
    more = machines_memory() if more is None else more
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    wanted = _size() + more
    bounds = [bound for bound in (soft, hard) if bound != resource.RLIM_INFINITY]
    resource.setrlimit(resource.RLIMIT_AS, (min([wanted, *bounds]), hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


def _size() -> int:
    """Bytes of address space in use; 0 where the system does not say."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[0])
    except OSError:
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE")
