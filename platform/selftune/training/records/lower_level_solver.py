"""What methods have in common that solve the lower level of a smooth problem to a tolerance."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal

from selftune.errors import SettingError
from selftune.lower_level.smooth_objective import SmoothObjective
from selftune.training.smooth_checks import problem_mistakes
from selftune.training.smooth_trainer import SmoothTrainerFactory

SolverName = Literal["newton", "accelerated_gradient", "lbfgs", "proximal_gradient"]
"""The lower-level solvers that a study file can name."""

REASONS = {
    "budget": "its budget was spent",
    "stationary": "the hypergradient, its error included, is certified to be smaller than the tolerance",
    "estimated": "the hypergradient, its estimated error included, is smaller than the tolerance, which certifies"
    " nothing",
    "flat": "the hypergradient is smaller than the tolerance, its error not included",
    "floor": "more accuracy was needed than rounding allows",
    "kink": "no accuracy finds a step that provably lowers the upper level: where the lower level is not smooth,"
    " mostly a kink of the upper level, at which the active set changes",
    "pinned": "the hypergradient is zero: with these hyperparameters every parameter is zero or at a bound, and"
    " small changes of theirs move none; start from weaker ones",
    "searches": "too many searches in a row found no step that provably lowers the upper level",
    "lost": "no trainer was left",
}
"""Words for which such methods stop, each with what follows "the method ended because"."""


def solving_trainers(objective: SmoothObjective, settings: Any, cpus: float, seed: int) -> SmoothTrainerFactory:
    """Trainers with the solver that the settings name, where ``solver_mistakes`` found nothing wrong."""
    return SmoothTrainerFactory(
        objective, settings.solver, cpus, checked=True, linear_solver=settings.linear_solver
    )


def solver_mistakes(objective: SmoothObjective, settings: Any) -> Iterator[SettingError]:
    """What is wrong with the objective by itself, or with the solver that the settings name."""
    return problem_mistakes(objective, settings.solver)
