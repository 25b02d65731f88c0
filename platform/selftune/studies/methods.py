"""Methods as study files know them: what each works on, its settings and budgets, and how it is made."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from selftune.lower_level.objective import NetworkObjective
from selftune.lower_level.smooth_objective import SmoothObjective
from selftune.methods import (
    Budget,
    Implicit,
    ImplicitSettings,
    InexactLineSearch,
    InexactLineSearchSettings,
    NetworkLineSearch,
    NetworkLineSearchSettings,
    OnlineImplicit,
    OnlineImplicitSettings,
    Penalty,
    PenaltySettings,
    SelfTuning,
    SelfTuningSettings,
)
from selftune.methods.team import TeamMethod

Solver = Literal["newton", "accelerated_gradient", "lbfgs", "proximal_gradient"]


@dataclass(frozen=True)
class InexactLineSearchSection(InexactLineSearchSettings):
    """The section ``method`` of a study with ``inexact_line_search``: its settings, and the lower-level solver."""

    solver: Solver = "newton"


@dataclass(frozen=True)
class ImplicitSection(ImplicitSettings):
    """The section ``method`` of a study with ``implicit``: its settings, and the lower-level solver."""

    solver: Solver = "newton"


class MethodEntry(NamedTuple):
    """One form of a method.

    Attributes:
        objective: the shape of objectives it works on.
        settings: dataclass of the section ``method``.
        budgets: fields of ``Budget`` that it takes.
        method: its class.
        build: makes it from budget, settings and the number of trainers.
        shared: whether all trainers work on one network.
    """

    objective: type[NetworkObjective | SmoothObjective]
    settings: type[Any]
    budgets: tuple[str, ...]
    method: type[TeamMethod]
    build: Callable[[Budget, Any, int], TeamMethod]
    shared: bool = False

    @property
    def twins(self) -> int:
        """Trainers that share their random numbers; the network of the first one is what comes out."""
        return self.method.twins


def _inexact_line_search(budget: Budget, settings: InexactLineSearchSection, team_size: int) -> TeamMethod:
    return InexactLineSearch(budget.work, budget.steps, settings, team_size)


def _implicit(budget: Budget, settings: ImplicitSection, team_size: int) -> TeamMethod:
    return Implicit(budget.work, budget.steps, settings, team_size)


_TRAINING, _SOLVING = ("steps", "seconds"), ("steps", "work")

METHODS: dict[str, tuple[MethodEntry, ...]] = {
    "self_tuning": (MethodEntry(NetworkObjective, SelfTuningSettings, _TRAINING, SelfTuning, SelfTuning),),
    "inexact_line_search": (
        MethodEntry(SmoothObjective, InexactLineSearchSection, _SOLVING, InexactLineSearch, _inexact_line_search),
        MethodEntry(
            NetworkObjective,
            NetworkLineSearchSettings,
            _TRAINING,
            NetworkLineSearch,
            NetworkLineSearch,
            shared=True,
        ),
    ),
    "implicit": (
        MethodEntry(SmoothObjective, ImplicitSection, _SOLVING, Implicit, _implicit),
        MethodEntry(NetworkObjective, OnlineImplicitSettings, _TRAINING, OnlineImplicit, OnlineImplicit),
    ),
    "penalty": (MethodEntry(NetworkObjective, PenaltySettings, _TRAINING, Penalty, Penalty),),
}
"""Forms of every method by its name."""


def entry_for(name: str, objective: object) -> MethodEntry:
    """The form of a method that works on an objective; its first one where none does."""
    return next((entry for entry in METHODS[name] if isinstance(objective, entry.objective)), METHODS[name][0])


def name_of(settings: object) -> str:
    """The method that settings belong to."""
    return next(name for name, forms in METHODS.items() if any(type(settings) is form.settings for form in forms))
