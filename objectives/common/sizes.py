"""Settings of tasks that are sizes."""

from __future__ import annotations

from selftune.errors import SettingError


def check_sizes(task: object, *names: str) -> None:
    """Refuses settings of a task that are below 1.

    Raises:
        SettingError: with the name of the first such setting.

    >>> from types import SimpleNamespace
    >>> check_sizes(SimpleNamespace(width=0), "width")
    Traceback (most recent call last):
    selftune.errors.SettingError: width: must be at least 1, got 0
    """
    for name in names:
        value = getattr(task, name)
        if value is not None and value < 1:
            raise SettingError(name, f"must be at least 1, got {value}")
