"""Which file of the catalogue defines a function: found by reading the files, without importing any."""

from __future__ import annotations

import ast
import pkgutil
from collections.abc import Iterator
from functools import cache
from importlib.util import find_spec
from pathlib import Path

_PACKAGES = tuple(f"selftune.objectives.{name}" for name in ("regularizers", "diagnostics", "solvers", "tasks"))
_ENGINE = tuple(
    f"selftune.hypergradients.linear_solvers.{name}"
    for name in ("deep_conjugate_direction", "gradient_normalized_newton", "greedy_block_coordinate_descent")
)
"""Solvers of the catalogue that live with the engine."""


def module_of(name: str) -> str | None:
    """The module that defines a public function, None where none does.

    A file is mostly named like its function, so that files of that name are looked at before all others.

    >>> module_of("mixup")
    'selftune.objectives.regularizers.supervision.mixup'
    >>> module_of("no_such_function") is None
    True
    """
    likely_first = sorted(_modules(), key=lambda module: module.rpartition(".")[2] != name)
    return next((module for module in likely_first if name in defined_in(module)), None)


def modules_by_function() -> dict[str, str]:
    """The module of every function, sorted by the functions' names.

    Raises:
        ImportError: if two modules define one name.
    """
    known: dict[str, str] = {}
    for module in _modules():
        for name in defined_in(module):
            if name in known:
                raise ImportError(f"{module} and {known[name]} both define {name}")
            known[name] = module
    return dict(sorted(known.items()))


@cache
def defined_in(module: str) -> tuple[str, ...]:
    """Names of the public functions that the text of a module defines.

    >>> defined_in("selftune.objectives.regularizers.supervision.mixup")
    ('mixup',)
    """
    spec = find_spec(module)
    if spec is None or spec.origin is None:
        raise ImportError(f"the file of {module} is missing; install selftune anew")
    tree = ast.parse(Path(spec.origin).read_text(encoding="utf-8"))
    functions = (node.name for node in tree.body if isinstance(node, ast.FunctionDef))
    return tuple(name for name in functions if not name.startswith("_"))


@cache
def _modules() -> tuple[str, ...]:
    return (*(module for package in _PACKAGES for module in _below(package)), *_ENGINE)


def _below(package: str) -> Iterator[str]:
    """The modules of a package and of the packages in it."""
    spec = find_spec(package)
    for found in pkgutil.iter_modules(spec.submodule_search_locations if spec else None, f"{package}."):
        if found.ispkg:
            yield from _below(found.name)
        else:
            yield found.name


def stub() -> str:
    """The text of ``functional.pyi``, which tells editors and type checkers what ``functional`` has."""
    lines = [
        "# What functional.py finds when it is asked, for editors and type checkers. Written by `make docs`.",
        "",
        *(f"from {module} import {name} as {name}" for name, module in modules_by_function().items()),
        "",
        "__all__: list[str]",
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    print(stub(), end="")
