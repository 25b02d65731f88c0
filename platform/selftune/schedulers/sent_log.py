"""Log lines of workers that do not reach the folder of their run."""

from __future__ import annotations

import io
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from selftune.logs import WorkerLog
from selftune.schedulers.served_folder import ServedFolder


@dataclass(frozen=True)
class SentLog(WorkerLog):
    """How workers log that do not reach the folder of the run: the driver's machine writes their lines.

    Args:
        served: the folder of the run, or one below it.
    """

    served: ServedFolder

    def handler(self, path: Path) -> logging.Handler:
        return logging.StreamHandler(_Lines(self.served, str(path)))


class _Lines(io.TextIOBase):
    def __init__(self, served: ServedFolder, path: str) -> None:
        self._served, self._path = served, path

    def write(self, text: str) -> int:
        self._served.tell("append", self._path, text)
        return len(text)


def log_from_here(log: WorkerLog | None, filesystem: Any) -> WorkerLog | None:
    """A log as a worker can write it, given the file system of its trial's storage; travels to its helpers."""
    handler = getattr(filesystem, "handler", None)
    if log is None or not isinstance(handler, ServedFolder) or handler.is_here:
        return log
    return SentLog(log.folder, log.level, log.study, handler)
