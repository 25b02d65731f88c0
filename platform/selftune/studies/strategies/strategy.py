"""What every shape of objective has to say to a study."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from selftune.errors import SettingError
from selftune.hyperparameters import Space
from selftune.methods import Budget, HyperStep, Report
from selftune.methods.team_method import CANNOT_GROW, TeamMethod
from selftune.regularization.regularizer import Regularizer
from selftune.studies.progress import Progress
from selftune.studies.tuning_result import TuningResult
from selftune.training.method_record import fitting, methods
from selftune.training.team_run import Executes

if TYPE_CHECKING:
    from rich.console import Console

    from selftune.studies.display import Display
    from selftune.studies.runner import Runner
    from selftune.studies.strategies.network import NetworkStrategy
    from selftune.studies.study import Study
    from selftune.tracking.summary import Summary


class Strategy(ABC):
    """How a study of one shape of objective is checked, run, shown and kept.

    Args:
        study: the data that all of it follows from.
    """

    objectives: ClassVar[type]
    """The shape of objectives that it is for."""
    kind: ClassVar[str]
    """What the catalogue calls a task of this shape."""
    described_as: ClassVar[str]
    """What such a task has, after "a task with"."""
    required: ClassVar[tuple[str, ...]] = ()
    """Sections that a study file must have beside those that every one has."""
    unused: ClassVar[Mapping[str, str]] = {}
    """Arguments of ``tune`` that mean nothing to this shape, and why they are refused."""
    budget: ClassVar[Mapping[str, Any]] = {}
    """The budget where a call of ``tune`` gives none."""

    def __init__(self, study: Study) -> None:
        self.study = study

    # Reading -----------------------------------------------------------------------------------------

    @classmethod
    @abstractmethod
    def built(cls, task: Any, settings: Mapping[str, Any]) -> Any:
        """The objective of a task, from the section ``objective`` of a study file without its name."""

    @classmethod
    def refuse_unused(cls, **given: Any) -> None:
        """Refuses arguments of ``tune`` that mean nothing here; None is as good as not given.

        Raises:
            SettingError: naming the first.
        """
        for key, value in given.items():
            if key in cls.unused and value is not None:
                raise SettingError(key, cls.unused[key])

    @classmethod
    @abstractmethod
    def digest(cls, objective: Any) -> str:
        """A text that two objectives share if they give the same result."""

    @classmethod
    def resources(cls, objective: Any) -> dict[str, Any]:
        """What each trainer of a call of ``tune`` gets: settings of ``Trainers``."""
        return {}

    # Checking ----------------------------------------------------------------------------------------

    def misfits(self) -> Iterator[SettingError]:
        """Why method, budget and objective cannot be in one study."""
        study = self.study
        if methods[study.method_name].form_for(study.objective) is not study.form:
            known = ", ".join(fitting(study.objective))
            yield SettingError(
                "method.name", f"{study.method_name} does not fit a task with {self.described_as}; use {known}"
            )
            return
        for key in ("steps", "seconds", "work"):
            if getattr(study.budget, key) is not None and key not in study.form.budgets:
                give = " or ".join(study.form.budgets)
                yield SettingError(f"budget.{key}", f"is no budget of {study.method_name}; give {give}")

    def horizon_mistakes(self) -> Iterator[SettingError]:
        """Why the study has no schedule that could be compared with its last values."""
        if self.study.horizon is not None:
            yield SettingError("horizon", f"is for studies that train a network, not {self.described_as}")

    def growth_mistakes(self) -> Iterator[SettingError]:
        """Why the study's team cannot begin with fewer trainers than it has."""
        study, least = self.study, self.study.trainers.at_least
        if least is None:
            return
        machine = study.form.make(study.budget, study.method, study.trainers.number)
        if not machine.can_grow:
            yield SettingError("trainers.at_least", CANNOT_GROW)
            return
        for mistake in study.form.make(study.budget, study.method, least).mistakes(self.space):
            yield SettingError("trainers.at_least", f"{least} trainers are too few: {mistake}")

    def started(self) -> tuple[Regularizer, ...]:
        """The study's regularizers, each hyperparameter that starts by a rule at a number.

        Raises:
            SettingError: if a rule has no number for it; the key is that of a study file.
        """
        return self.study.regularizers

    @abstractmethod
    def mistakes(self) -> Iterator[SettingError]:
        """What fits each for itself, but not together; nothing is trained. Keys are those of a study file."""

    # Making ------------------------------------------------------------------------------------------

    def method(self) -> TeamMethod:
        """A new state machine of the study's method."""
        study = self.study
        machine = study.form.make(study.budget, study.method, study.trainers.number)
        machine.judge_by(study.metric, study.mode)
        return machine

    @property
    @abstractmethod
    def space(self) -> Space:
        """The hyperparameters, tuned and fixed."""

    @abstractmethod
    def trainers(self, seed: int | None = None) -> Callable[[int], Executes]:
        """What makes the trainers; ``seed`` replaces the study's own, where something is drawn at random."""

    # Showing -----------------------------------------------------------------------------------------

    @abstractmethod
    def described(self) -> Iterator[tuple[str, Sequence[str]]]:
        """What ``selftune check`` says of the lower level: titles, each with its lines."""

    @classmethod
    @abstractmethod
    def lines(cls, say: Callable[[str], None], title: str, budget: Budget) -> Progress:
        """Says in lines how far a run is."""

    @classmethod
    @abstractmethod
    def display(cls, console: Console, title: str, budget: Budget) -> Display:
        """Shows on a console how far a run is."""

    # Running a study file, which leaves a folder -----------------------------------------------------

    def begin(self, folder: Path, console: Console) -> None:  # noqa: B027  (most have nothing to say)
        """Says and keeps what is known before anything runs."""

    @abstractmethod
    def keep(self, folder: Path, reports: Mapping[int, Report], summary: Summary) -> Summary:
        """Keeps what the team found, given its last reports; the summary with what they say."""

    @abstractmethod
    def compared(self, folder: Path, console: Console, runner: Runner, summary: Summary) -> Summary:
        """The same measures with the start values held."""

    def looked_back(self, folder: Path, console: Console, runner: Runner, summary: Summary) -> Summary:
        """Networks trained with the schedule and with its last values, as the section ``horizon`` asks for."""
        return {}

    def warnings(self, measures: Mapping[str, Mapping[str, float]]) -> list[str]:
        """What a person should know of the measures, by what they are of."""
        return []

    def as_network(self, folder: Path) -> NetworkStrategy:
        """This strategy, where there is a network to train again or to load.

        Raises:
            UserError: if there is none.
        """
        from selftune.studies.mistakes import UserError

        raise UserError(
            f"{folder}: {self.study.method_name} trains no network, so there is no schedule to replay; its result"
            f" is {folder / 'parameters.pt'}"
        )

    # Running a call of tune --------------------------------------------------------------------------

    @abstractmethod
    def call(self) -> dict[str, Any]:
        """The arguments of the call that decide its result, beside the objective."""

    def report(self, most: int | None = None) -> str:
        """What of the lower level is reached and responds, at most so many lines on its layers; or nothing."""
        return ""

    @abstractmethod
    def result(
        self, machine: TeamMethod, reports: Mapping[int, Report], taken: Sequence[HyperStep]
    ) -> tuple[TuningResult, dict[str, object]]:
        """What a call gives back, and entries of the folder's summary that say what it took."""
