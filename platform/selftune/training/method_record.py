"""What a bilevel method is to everything around it, in one record; methods by name.

A package adds a method by one file, which holds its settings, its state machine and its ``MethodRecord``, and one
entry point of the group ``selftune.methods``, whose name is that of the method:

    [project.entry-points."selftune.methods"]
    mine = "my_package.mine:METHOD"

Study files, ``tune``, ``OnlineTuner``, trainers, the schedulers of Ray Tune and the catalogue find it there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, cast

from selftune.errors import SettingError
from selftune.lower_level.objective import NetworkObjective
from selftune.lower_level.smooth_objective import SmoothObjective
from selftune.methods.budget import Budget
from selftune.methods.self_tuning_settings import Response
from selftune.methods.team_method import TeamMethod
from selftune.registries.registry import Registry
from selftune.regularization.regularizer import Regularizer
from selftune.training.estimators.hypergradient_estimator import HypergradientEstimator
from selftune.training.team_run import Executes

Build = Callable[[Budget, Any, int], TeamMethod]
"""Makes a state machine of its budget, its settings and the number of trainers."""


def _no_mistakes(*given: Any) -> Iterator[SettingError]:
    yield from ()


@dataclass(frozen=True, kw_only=True)
class NetworkForm:
    """A method that moves hyperparameters while networks train.

    Attributes:
        settings: dataclass of the section ``method``, of this method alone.
        machine: class of its state machine; its docstring describes the method.
        build: makes one; None calls ``machine``.
        estimator: what trains a network and gives its hypergradient, where orders ask for one.
        response: where the estimator fits a best response: how, by the settings.
        budgets: fields of ``Budget`` that it takes.
        one_network: whether all trainers work on one network.
        checks: what an objective, its regularizers and the settings say of each other; keys are those of a study
            file.
    """

    settings: type[Any]
    machine: type[TeamMethod]
    build: Build | None = None
    estimator: type[HypergradientEstimator] | None = None
    response: Callable[[Any], Response] | None = None
    budgets: tuple[str, ...] = ("steps", "seconds")
    one_network: bool = False
    draws: ClassVar[bool] = True
    checks: Callable[[NetworkObjective, Sequence[Regularizer], Any], Iterator[SettingError]] = _no_mistakes

    @property
    def group_size(self) -> int:
        """Trainers that share their random numbers; the network of the first one is what comes out."""
        return self.machine.group_size

    @property
    def differentiates(self) -> bool:
        """Whether the training loss is differentiated in the hyperparameters."""
        return self.estimator is None or self.estimator.differentiates

    @property
    def moves(self) -> bool:
        """Whether hyperparameters move; where they are held, none needs to be tuned, or to have an effect."""
        return self.estimator is None or self.estimator.moves

    @property
    def fits_loops(self) -> bool:
        """Whether one trainer that only goes forward will do, as in a training loop of one's own."""
        return self.estimator is not None and self.group_size == 1

    def make(self, budget: Budget, settings: Any, team_size: int) -> TeamMethod:
        """The state machine of a run."""
        build = cast(Build, self.machine) if self.build is None else self.build
        return build(budget, settings, team_size)

    def loop_mistake(self, settings: Any) -> SettingError | None:
        """Why a loop of one's own cannot use these settings."""
        response = None if self.response is None else self.response(settings)
        if response is None or (response.centered and not response.joint):
            return None
        return SettingError(
            "response", "must be centred and fitted separately in a loop of one's own, whose network stays plain"
        )


@dataclass(frozen=True, kw_only=True)
class SmoothForm:
    """A method that moves hyperparameters of a smooth problem, whose lower level is solved.

    Attributes:
        settings: dataclass of the section ``method``, of this method alone.
        machine: class of its state machine; its docstring describes the method.
        build: makes one.
        trainers: makes what makes the trainers, of the objective, the settings, the number of CPUs and the seed.
        draws: whether trainers draw at random, so that the seed counts.
        budgets: fields of ``Budget`` that it takes.
        checks: what the objective and the settings say of each other; keys are those of a study file.
        reasons: words for which the method stops, each with what follows "the method ended because".
    """

    settings: type[Any]
    machine: type[TeamMethod]
    build: Build
    trainers: Callable[[SmoothObjective, Any, float, int], Callable[[int], Executes]]
    draws: bool = False
    budgets: tuple[str, ...] = ("steps", "work")
    checks: Callable[[SmoothObjective, Any], Iterator[SettingError]] = _no_mistakes
    reasons: Mapping[str, str] = field(default_factory=dict)

    @property
    def group_size(self) -> int:
        """Trainers that share their random numbers."""
        return self.machine.group_size

    def make(self, budget: Budget, settings: Any, team_size: int) -> TeamMethod:
        """The state machine of a run."""
        return self.build(budget, settings, team_size)


@dataclass(frozen=True, kw_only=True)
class MethodRecord:
    """A method: how it tunes networks, how it tunes smooth problems, or both.

    Raises:
        ValueError: if it does neither.

    >>> methods["penalty"].smooth is None
    True
    """

    network: NetworkForm | None = None
    smooth: SmoothForm | None = None

    def __post_init__(self) -> None:
        if not self.forms:
            raise ValueError("a method tunes networks or smooth problems; give network or smooth")

    @property
    def forms(self) -> tuple[NetworkForm | SmoothForm, ...]:
        return tuple(form for form in (self.smooth, self.network) if form is not None)

    def form_for(self, objective: object) -> NetworkForm | SmoothForm | None:
        """The form that works on an objective, if one does."""
        return self.network if isinstance(objective, NetworkObjective) else self.smooth


methods: Registry[MethodRecord] = Registry("method", "selftune.methods")
"""Methods by name."""


def fitting(objective: object) -> list[str]:
    """The methods that work on an objective, by name."""
    return [name for name in methods.names() if methods[name].form_for(objective) is not None]


def of_settings(settings: object) -> tuple[str, NetworkForm | SmoothForm]:
    """The method that settings belong to: its name, and the form that they are of.

    Raises:
        LookupError: if they are those of no method.
    """
    for name in methods.names():
        for form in methods[name].forms:
            if type(settings) is form.settings:
                return name, form
    raise LookupError(f"{type(settings).__name__} are the settings of no method")


def stop_reason(word: str) -> str:
    """Why a method stopped, after "the method ended because"; the word itself where no record explains it.

    >>> stop_reason("budget")
    'its budget was spent'
    """
    smooth = (methods[name].smooth for name in methods.names())
    return next((form.reasons[word] for form in smooth if form is not None and word in form.reasons), word)


def are_settings(given: object) -> bool:
    """Whether something is the settings of a method."""
    return any(type(given) is form.settings for name in methods.names() for form in methods[name].forms)


def estimator_of(name: str) -> type[HypergradientEstimator]:
    """The hypergradient estimator of a method.

    Raises:
        UnknownName: if there is no such method.
        LookupError: if it has none.
    """
    form = methods[name].network
    if form is None or form.estimator is None:
        raise LookupError(f"{name} has no hypergradient estimator; name a method that has one")
    return form.estimator
