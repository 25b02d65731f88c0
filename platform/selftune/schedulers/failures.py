"""Why a trial failed, in one line."""

from __future__ import annotations

import errno
import os
import re
from pathlib import Path

_FULL = tuple(os.strerror(number) for number in (errno.ENOSPC, errno.EDQUOT))
_GPU = "the GPU's memory is full; lower objective.batch_size"
_HOST = "the memory of its machine is full; lower objective.batch_size, or run fewer trainers on a machine"
_MEMORY = (
    (r"killed due to the node running low on memory", _HOST),  # Ray's memory monitor
    (r"^torch\.(cuda\.)?OutOfMemoryError\b", _GPU),
    (r"^MemoryError\b|can't allocate memory|^OSError: \[Errno 12\]", _HOST),
)
"""What torch, Python and Ray say of memory that ran out, and what that means."""


def last_failure(error_file: str | Path | None) -> str:
    """The last failure in the file that Tune writes for a trial.

    Returns:
        The exception of a trainer, or the first line of what Ray says of a worker that died; where memory ran out,
        that it did.
    """
    path = Path(error_file) if error_file else None
    if path is None or not path.exists():
        return "its worker died"
    _, *lines = path.read_text().rpartition("Failure # ")[2].strip().splitlines()
    if not lines:
        return "its worker died"
    raised = any(line.startswith("  File ") for line in lines)
    found = lines[-1] if raised else lines[0]
    return next((words for pattern, words in _MEMORY if re.search(pattern, found)), found)


def is_full_disk(failure: str) -> bool:
    """Whether a disk was full. Another start mends nothing then, and other trials meet the same.

    >>> is_full_disk("OSError: [Errno 28] No space left on device")
    True
    """
    return any(words in failure for words in _FULL)
