"""Values put into the content of a study file, each at its key."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

from selftune.errors import SettingError
from selftune.fields import shown

START = ".start"


def placed(content: Mapping[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """A copy of the content with the values at their dotted keys; sections on the way are made where missing.

    A section that is a value itself comes before what is put into it, in whatever order they are given.

    Raises:
        SettingError: if a key leads through something that has no keys.

    >>> placed({"objective": {"task": "digits"}}, {"objective.optimization.learning_rate": 0.1})
    {'objective': {'task': 'digits', 'optimization': {'learning_rate': 0.1}}}
    """
    made: dict[str, Any] = copy.deepcopy(dict(content))
    for key, value in sorted(values.items(), key=lambda one: one[0].count(".")):
        *sections, last = key.split(".")
        here = made
        for depth, section in enumerate(sections):
            there = here.get(section)
            if there is None or (there == "tune" and key.endswith(START) and depth == len(sections) - 1):
                there = here[section] = {}
            if not isinstance(there, dict):
                path = ".".join(sections[: depth + 1])
                raise SettingError(key, f"cannot be swept, because {path} is {shown(there)}, which has no keys")
            here = there
        here[last] = copy.deepcopy(value)
    return made


def at(content: Mapping[str, Any], key: str) -> Any:
    """What the content holds at a dotted key; None if nothing.

    >>> at({"regularizers": {"dropout": {"rate": 0.1}}}, "regularizers.dropout.rate")
    0.1
    """
    here: Any = content
    for section in key.split("."):
        if not isinstance(here, Mapping) or section not in here:
            return None
        here = here[section]
    return here
