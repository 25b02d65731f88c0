"""The setting ``dataset`` of tasks: a name of data that come along, or a path; its mistakes."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from selftune.errors import SettingError, suggestion


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


def check_word(dataset: str, names: Iterable[str]) -> None:
    """Refuses a word that is neither a file nor a name of data that come along.

    What has a suffix or a folder in it is a path; its reader says how to make what is not there.

    Raises:
        SettingError: under the key ``dataset``, with the nearest name.

    >>> check_word("flowers/train.parquet", ["wine"])
    >>> check_word("wines", ["wine", "iris"])
    Traceback (most recent call last):
    selftune.errors.SettingError: dataset: wines is no file, and no data that come along; did you mean wine?
    """
    if not (Path(dataset).suffix or os.sep in dataset or Path(dataset).exists()):
        known = suggestion(dataset, names)
        raise SettingError("dataset", f"{dataset} is no file, and no data that come along; {known}")
