"""Mistakes of what reads files, under the setting of a task that names the file."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from selftune.errors import SettingError


@contextmanager
def under_dataset() -> Iterator[None]:
    """Turns the key ``path`` of an error into ``dataset``, as tasks call it.

    >>> with under_dataset():
    ...     raise SettingError("path", "there is no file a.csv")
    Traceback (most recent call last):
    selftune.errors.SettingError: dataset: there is no file a.csv
    """
    try:
        yield
    except SettingError as error:
        if error.key != "path":
            raise
        raise SettingError("dataset", error.message) from error
