"""``method: {name: inexact_line_search}`` (MAID): on smooth problems, and on networks in training."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from selftune.data.kinds import examples_of, is_dataset, is_held
from selftune.data.nested import size_of
from selftune.errors import SettingError
from selftune.lower_level.objective import NetworkObjective
from selftune.methods import (
    Budget,
    InexactLineSearch,
    InexactLineSearchSettings,
    NetworkLineSearch,
    NetworkLineSearchSettings,
)
from selftune.regularization.regularizer import Regularizer
from selftune.training.arm import number_of_judges
from selftune.training.method_record import MethodRecord, NetworkForm, SmoothForm
from selftune.training.records.lower_level_solver import REASONS, SolverName, solver_mistakes, solving_trainers
from selftune.training.smooth_trainer import LinearSolverName
from selftune.training.sources.batch_source import BY_POSITION


@dataclass(frozen=True)
class InexactLineSearchSection(InexactLineSearchSettings):
    """The section ``method`` of a study with ``inexact_line_search``: its settings, and its solvers."""

    solver: SolverName = "newton"
    linear_solver: LinearSolverName = "conjugate_gradient"


def _build(budget: Budget, settings: InexactLineSearchSection, team_size: int) -> InexactLineSearch:
    return InexactLineSearch(budget.work, budget.steps, settings, team_size)


def _network_checks(
    objective: NetworkObjective, regularizers: Sequence[Regularizer], settings: NetworkLineSearchSettings
) -> Iterator[SettingError]:
    """Candidates are judged by validation examples that are known by their position, and by enough of them."""
    data = objective.data("validation")
    examples = size_of(data) if is_held(data) else examples_of(data)
    if examples is None or not (is_held(data) or is_dataset(data)):
        yield SettingError("validation", BY_POSITION)
        return
    mistake = settings.mistake_of(number_of_judges(examples, settings.validation_samples))
    if mistake is not None:
        yield SettingError(f"method.{mistake.key}", mistake.message)


METHOD = MethodRecord(
    smooth=SmoothForm(
        settings=InexactLineSearchSection,
        machine=InexactLineSearch,
        build=_build,
        trainers=solving_trainers,
        checks=solver_mistakes,
        reasons=REASONS,
    ),
    network=NetworkForm(
        settings=NetworkLineSearchSettings, machine=NetworkLineSearch, one_network=True, checks=_network_checks
    ),
)
