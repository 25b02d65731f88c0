"""``method: {name: implicit}``: on networks in training, and on smooth problems (HOAG)."""

from __future__ import annotations

from dataclasses import dataclass

from selftune.methods import Budget, Implicit, ImplicitSettings, OnlineImplicit, OnlineImplicitSettings
from selftune.training.estimators.implicit import ImplicitEstimator
from selftune.training.method_record import MethodRecord, NetworkForm, SmoothForm
from selftune.training.records.lower_level_solver import REASONS, SolverName, solver_mistakes, solving_trainers
from selftune.training.smooth_trainer import LinearSolverName


@dataclass(frozen=True)
class ImplicitSection(ImplicitSettings):
    """The section ``method`` of a study with ``implicit``: its settings, and its solvers."""

    solver: SolverName = "newton"
    linear_solver: LinearSolverName = "conjugate_gradient"


def _build(budget: Budget, settings: ImplicitSection, team_size: int) -> Implicit:
    return Implicit(budget.work, budget.steps, settings, team_size)


METHOD = MethodRecord(
    smooth=SmoothForm(
        settings=ImplicitSection,
        machine=Implicit,
        build=_build,
        trainers=solving_trainers,
        checks=solver_mistakes,
        reasons=REASONS,
    ),
    network=NetworkForm(settings=OnlineImplicitSettings, machine=OnlineImplicit, estimator=ImplicitEstimator),
)
