"""Settings of a method as keyword arguments of its scheduler."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any, TypeVar

from selftune.errors import SettingError, suggestion

T = TypeVar("T")


def settings_of(kind: type[T], given: Mapping[str, Any]) -> T:
    """The settings that these keyword arguments make.

    Args:
        kind: a dataclass of settings.

    Raises:
        SettingError: if there is no such setting, or a value is out of its range.

    >>> from selftune.methods import SelfTuningSettings
    >>> settings_of(SelfTuningSettings, {"learning_rate": 0.5}).learning_rate
    0.5
    """
    known = [field.name for field in fields(kind)]  # type: ignore[arg-type]
    for key in given:
        if key not in known:
            raise SettingError(key, f"there is no such setting; {suggestion(key, known)}")
    return kind(**given)
