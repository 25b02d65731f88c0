"""Log lines: one form for all processes of a run, with study, team and trainer in every line.

Modules log by ``logging.getLogger(__name__)`` as everywhere; what a line is about is known to its process, or said
by ``about``. A driver and each of its workers write a file of their own into the folder ``logs`` of the run.
"""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

FOLDER = "logs"
LEVELS = ("debug", "info", "warning", "error")
FORM = "%(asctime)s %(levelname)s study=%(study)s team=%(team)s trainer=%(trainer)s %(name)s: %(message)s"
NAMES = ("study", "team", "trainer")
_OF_A_WORKER = "selftune worker"

_about: ContextVar[Mapping[str, str]] = ContextVar("about", default={})  # noqa: B039  (nobody changes it)


@contextmanager
def about(**names: object) -> Iterator[None]:
    """Lines within the context are about this study, team or trainer.

    >>> with about(study="digits", trainer=1):
    ...     record = logging.makeLogRecord({"msg": "there", "levelname": "INFO", "name": "selftune"})
    ...     Formatter().format(record).partition(" INFO ")[2]
    'study=digits team=- trainer=1 selftune: there'
    """
    token = _about.set({**_about.get(), **{name: str(value) for name, value in names.items()}})
    try:
        yield
    finally:
        _about.reset(token)


class Formatter(logging.Formatter):
    """Writes a line, in universal time; what it is not about is a dash.

    Args:
        names: what all lines are about that do not say something else.
    """

    converter = time.gmtime  # type: ignore[assignment]
    default_time_format = "%Y-%m-%dT%H:%M:%S"
    default_msec_format = "%s.%03dZ"

    def __init__(self, **names: object) -> None:
        super().__init__(FORM)
        self._names = {name: str(value) for name, value in names.items()}

    def format(self, record: logging.LogRecord) -> str:
        known = {**self._names, **_about.get()}
        for name in NAMES:
            record.__dict__[name] = known.get(name, "-")
        return super().format(record)


@contextmanager
def driver_log(folder: Path, level: str, **names: object) -> Iterator[None]:
    """Within the context, lines of this process go to ``logs/driver.log``, and warnings to stderr, too.

    Args:
        folder: of the run.
        level: the lowest that is written, of ``LEVELS``.
        names: what all lines are about.

    Raises:
        OSError: if the file cannot be written.
    """
    warnings = logging.StreamHandler(sys.stderr)
    warnings.setLevel(logging.WARNING)
    warnings.setFormatter(Formatter(**names))
    warnings.addFilter(_not_shown)
    with _handling(_file(folder / FOLDER / "driver.log", level, names)), _handling(warnings):
        yield


SHOWN = {"shown": True}
"""Goes as ``extra`` with warnings that the display of a run shows, too: stderr needs them no second time."""


def _not_shown(record: logging.LogRecord) -> bool:
    return "shown" not in record.__dict__


@contextmanager
def _handling(handler: logging.Handler) -> Iterator[None]:
    logger = logging.getLogger("selftune")
    before = logger.level
    logger.addHandler(handler)
    logger.setLevel(min([one.level for one in logger.handlers]))
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(before)
        handler.close()


def _file(path: Path, level: str, names: Mapping[str, object]) -> logging.Handler:
    return _set(_opened(path), level, names)


def _opened(path: Path) -> logging.Handler:
    path.parent.mkdir(exist_ok=True)
    return logging.FileHandler(path, encoding="utf-8")


def _set(handler: logging.Handler, level: str, names: Mapping[str, object]) -> logging.Handler:
    handler.setLevel(level.upper())
    handler.setFormatter(Formatter(**names))
    return handler


@dataclass(frozen=True)
class WorkerLog:
    """How the workers of a run log; travels to them.

    Args:
        folder: of the run.
        level: the lowest that is written, of ``LEVELS``.
        study: its name.
    """

    folder: str
    level: str
    study: str

    def as_mapping(self) -> dict[str, str]:
        """Its parts, as plain values."""
        return asdict(self)

    def open(self, name: str, team: int | None, trainer: int) -> None:
        """From now on lines of this process go to ``logs/<name>.log``, and no longer to where they went before."""
        logger = logging.getLogger("selftune")
        for handler in [one for one in logger.handlers if one.get_name() == _OF_A_WORKER]:
            logger.removeHandler(handler)
            handler.close()
        names: dict[str, Any] = {"study": self.study, "team": "-" if team is None else team, "trainer": trainer}
        path = Path(self.folder) / FOLDER / f"{name}.log"
        handler = _set(self.handler(path), self.level, names)
        handler.set_name(_OF_A_WORKER)
        logger.addHandler(handler)
        logger.setLevel(self.level.upper())

    def handler(self, path: Path) -> logging.Handler:
        """Writes to the file of this process."""
        return _opened(path)
