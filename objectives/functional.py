"""Every card's function under its slug: ``from selftune.objectives.functional import mixup``.

The file of a function, of a regularizer, a diagnostic, a solver or a task, is imported when its name is asked for.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

from selftune.objectives.function_files import module_of, modules_by_function


def __getattr__(name: str) -> Callable[..., Any] | list[str]:
    if name == "__all__":
        return list(modules_by_function())
    module = None if name.startswith("_") else module_of(name)
    if module is None:
        raise AttributeError(f"the catalogue has no function {name}")
    return getattr(importlib.import_module(module), name)


def __dir__() -> list[str]:
    return list(modules_by_function())
