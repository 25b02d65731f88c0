"""Methods of studies whose lower level is solved to a tolerance: their settings and how they are made."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from selftune.methods import (
    Budget,
    Implicit,
    ImplicitSettings,
    InexactLineSearch,
    InexactLineSearchSettings,
    Method,
)

Solver = Literal["newton", "accelerated_gradient", "lbfgs", "proximal_gradient"]


@dataclass(frozen=True)
class InexactLineSearchSection(InexactLineSearchSettings):
    """The section ``method`` of a study with ``inexact_line_search``: its settings, and the lower-level solver."""

    solver: Solver = "newton"


@dataclass(frozen=True)
class ImplicitSection(ImplicitSettings):
    """The section ``method`` of a study with ``implicit``: its settings, and the lower-level solver."""

    solver: Solver = "newton"


def build_inexact_line_search(budget: Budget, settings: InexactLineSearchSection, team_size: int) -> Method:
    return InexactLineSearch(budget.work, budget.steps, settings, team_size)


def build_implicit(budget: Budget, settings: ImplicitSection, team_size: int) -> Method:
    return Implicit(budget.work, budget.steps, settings, team_size)
