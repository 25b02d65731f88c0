"""What a sweep's scheduler and searcher were told and what they decided, in order: from it both are made anew.

Ray's schedulers keep what they know in objects of their own, which differ from version to version. A new one that
hears the same again knows the same.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from selftune.storage.files import DamagedFile
from selftune.storage.frames import FrameWriter, read_frames

Event = list[Any]
"""What happened, the number of the trial, and what else is to be known of it; all of it as JSON has it."""

ADDED, STARTED, REPORTED, COMPLETED, FAILED, REMOVED = "add", "start", "report", "complete", "fail", "remove"
WENT_BACK = "back"
DRAWN, TOLD = "draw", "tell"

_FIRST = b'"sweep"'


class History:
    """Events, in a file or, without one, in memory.

    Args:
        path: of the file; what is there is replaced.
        before: what has happened before.

    >>> history = History()
    >>> history.append([STARTED, 0])
    >>> len(history), history.events
    (1, [['start', 0]])
    """

    def __init__(self, path: Path | None = None, before: Iterable[Event] = ()) -> None:
        self.events: list[Event] = []
        self._file: FrameWriter | None = None
        self._length = 0
        if path is not None:
            self._file = FrameWriter(path, _FIRST)
        for event in before:
            self.append(event)

    def __len__(self) -> int:
        return self._length

    def append(self, event: Event) -> None:
        """Adds an event; no kill of this process loses it once this has returned.

        Raises:
            OSError: if it cannot be written.
        """
        self._length += 1
        if self._file is None:
            self.events.append(json.loads(json.dumps(event)))
        else:
            self._file.append(json.dumps(event, separators=(",", ":")).encode())

    def close(self) -> None:
        if self._file is not None:
            self._file.close()


def read_history(path: Path, length: int) -> list[Event]:
    """The first events of a file.

    Raises:
        DamagedFile: if it does not hold so many, or was changed.
    """
    try:
        frames = read_frames(path.read_bytes(), path)[1:]
    except FileNotFoundError:
        frames = []
    if len(frames) < length:
        raise DamagedFile(f"{path}: is missing, or has lost its end; put back a copy of it")
    return [json.loads(frame) for frame in frames[:length]]


def generators() -> list[Any]:
    """How the generators of random numbers stand from which Ray's schedulers draw, as JSON."""
    version, internal, gauss = random.getstate()
    name, keys, *rest = np.random.get_state(legacy=True)
    return [[version, list(internal), gauss], [name, [int(key) for key in keys], *rest]]


def set_generators(state: list[Any]) -> None:
    """Sets them to what ``generators`` said.

    >>> before = generators()
    >>> drawn = random.random(), np.random.rand()
    >>> set_generators(before)
    >>> drawn == (random.random(), np.random.rand())
    True
    """
    (version, internal, gauss), (name, keys, *rest) = state
    random.setstate((version, tuple(internal), gauss))
    np.random.set_state((name, np.array(keys, dtype=np.uint32), *rest))


def plain(result: Mapping[str, Any], names: Iterable[str]) -> dict[str, Any]:
    """The entries of a result that schedulers look at, as JSON has them."""
    return {name: _plain(result[name]) for name in names if name in result}


def _plain(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) else value
