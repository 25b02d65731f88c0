"""Solvers of the catalogue: functions that solve a problem inside a loss, or set up a run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from selftune.registries.reference import Reference
from selftune.registries.registry import Registry

F = TypeVar("F", bound=Callable[..., Any])


@dataclass(frozen=True)
class Solver:
    """A solver as the catalogue knows it."""

    name: str
    family: str
    reference: Reference
    function: Callable[..., Any]

    kind = "solver"


solvers: Registry[Solver] = Registry("solver", "selftune.solvers")
"""Solvers by name."""


def solver(*, family: str, reference: Reference) -> Callable[[F], F]:
    """Registers a solver and returns the function unchanged."""

    def decorate(function: F) -> F:
        solvers.register(function.__name__, Solver(function.__name__, family, reference, function))
        return function

    return decorate
