"""How far a store is behind the copy of a run's folder on this machine, for whoever looks at the copy."""

from __future__ import annotations

import time
from contextlib import suppress
from pathlib import Path

from selftune.storage.files import replacing

_STORE = ".store"  # beside the copy, so that it is not brought to the store itself


def note_whole(folder: Path, moment: float) -> None:
    """The store has all that the copy held at a moment, in seconds since 1970.

    Raises:
        OSError: if it cannot be written.
    """
    with replacing(folder.with_name(_STORE), durable=False) as temporary:
        temporary.write_text(f"{moment}\n")


def forget_lag(folder: Path) -> None:
    """The store has all of it, and nothing more is to come."""
    folder.with_name(_STORE).unlink(missing_ok=True)


def behind(folder: Path) -> float | None:
    """For how many seconds the store has not had all of a copy; None where the folder is no copy.

    >>> import tempfile
    >>> copy = Path(tempfile.mkdtemp()) / "digits-1"
    >>> behind(copy) is None
    True
    >>> note_whole(copy, time.time() - 60)
    >>> round(behind(copy))
    60
    """
    with suppress(FileNotFoundError, ValueError):
        return max(0.0, time.time() - float(folder.with_name(_STORE).read_text()))
    return None
