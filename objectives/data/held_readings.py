"""What was read last from files is held, so that a study that is made again reads nothing again."""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Callable, Hashable, Mapping
from functools import wraps
from pathlib import Path
from typing import Concatenate, ParamSpec, TypeVar

from selftune.objectives.data.data_files import AnyPath

P = ParamSpec("P")
T = TypeVar("T")

MOST = 2
"""Readings that a reader holds: those of two data sets, or of one with two settings, such as two sizes."""


def held(read: Callable[Concatenate[AnyPath, P], T]) -> Callable[Concatenate[AnyPath, P], T]:
    """The same reader, which gives the object that it gave before while files and settings are the same.

    Studies are made many times in a process: a comparison makes one for every method, a sweep for every sample.
    A file is another one when its size or the time of its last change is. Nobody may change what was read.

    Args:
        read: takes the path of a file or a folder, then settings.

    >>> from tempfile import mkdtemp
    >>> file = Path(mkdtemp()) / "song.txt"
    >>> _ = file.write_text("row, row, row your boat")
    >>> words = held(lambda path, separator: Path(path).read_text().split(separator))
    >>> words(file, " ") is words(file, " "), words(file, " ") is words(file, ",")
    (True, False)
    """
    readings: OrderedDict[Hashable, T] = OrderedDict()

    @wraps(read)
    def reader(path: AnyPath, /, *settings: P.args, **named: P.kwargs) -> T:
        found = Path(path).expanduser().absolute()
        key = found, _stamps(found), _frozen(settings), _frozen(named)
        if key not in readings:
            readings[key] = read(path, *settings, **named)
        readings.move_to_end(key)
        while len(readings) > MOST:
            readings.popitem(last=False)
        return readings[key]

    return reader


def _stamps(path: Path) -> Hashable:
    """The name of each file that is read, its size and the time of its last change."""
    files = sorted(path.rglob("*")) if path.is_dir() else [path]
    return tuple((str(file), about.st_size, about.st_mtime_ns) for file in files if (about := _about(file)))


def _about(file: Path) -> os.stat_result | None:
    try:
        return file.stat()
    except OSError:  # the reader says so, in its own words
        return None


def _frozen(value: object) -> Hashable:
    """A setting as something that can be looked up; 1, 1.0 and True are told apart."""
    if isinstance(value, Mapping):
        return tuple((_frozen(key), _frozen(one)) for key, one in value.items())
    if isinstance(value, list | tuple):
        return tuple(map(_frozen, value))
    return type(value).__name__, repr(value)
