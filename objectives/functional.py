"""Every card's function under its slug: ``from selftune.objectives.functional import mixup``.

Found by name: the public functions of the catalogue's modules (regularizers, diagnostics, solvers, tasks), and the
solvers of the catalogue that live with the engine.
"""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from collections.abc import Callable
from functools import cache
from typing import Any

_PACKAGES = tuple(f"selftune.objectives.{name}" for name in ("regularizers", "diagnostics", "solvers", "tasks"))
_ENGINE = tuple(
    f"selftune.hypergradients.linear_solvers.{name}"
    for name in ("deep_conjugate_direction", "gradient_normalized_newton", "greedy_block_coordinate_descent")
)


@cache
def functions() -> dict[str, Callable[..., Any]]:
    """All of them by name, sorted.

    Raises:
        ImportError: if two modules define one name.
    """
    modules = [importlib.import_module(name) for name in _ENGINE]
    for package in _PACKAGES:
        root = importlib.import_module(package)
        modules += [
            importlib.import_module(found.name)
            for found in pkgutil.walk_packages(root.__path__, f"{package}.")
            if not found.ispkg
        ]
    known: dict[str, Callable[..., Any]] = {}
    for module in modules:
        for name, function in vars(module).items():
            defined_here = inspect.isfunction(function) and function.__module__ == module.__name__
            if name.startswith("_") or not defined_here:
                continue
            if name in known:
                raise ImportError(f"{module.__name__} and {known[name].__module__} both define {name}")
            known[name] = function
    return dict(sorted(known.items()))


def __getattr__(name: str) -> Callable[..., Any]:
    if not name.startswith("_") and name in functions():
        return functions()[name]
    raise AttributeError(f"the catalogue has no function {name}")


def __dir__() -> list[str]:
    return list(functions())
