"""A study: what is tuned on what, by which method, for how long; in Python, ``selftune.tune`` needs none."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

from selftune.errors import SettingError
from selftune.fields import check_fields
from selftune.hyperparameters import Space
from selftune.lower_level.better import mode_of
from selftune.lower_level.objective import NetworkObjective
from selftune.lower_level.smooth_objective import SmoothObjective
from selftune.methods import Budget, SelfTuningSettings
from selftune.methods.team_method import check_team
from selftune.registries.diagnostics import Measurement
from selftune.regularization.regularizer import Regularizer
from selftune.studies.horizon_settings import Horizon
from selftune.studies.mistakes import Mistakes
from selftune.studies.strategies import Strategy, strategy_for
from selftune.training.method_record import NetworkForm, SmoothForm, of_settings
from selftune.training.seeds import check_seed

SMALLEST_SHARE = 0.0001  # of a CPU or GPU: Ray counts no finer


@dataclass(frozen=True)
class Trainers:
    """How many trainers work on a study, and what each of them gets.

    Args:
        number: of trainers.
        at_least: trainers with which a study on Ray may start where there is no room for all of them; the others
            join once there is room. None for all.
        workers: processes of each, which train its network together on Ray.
        cpus: of each, and of each of its workers.
        gpus: of each that has one worker.
        gpus_per_worker: of each worker; of several, each trains on one GPU.
        hang_after: seconds after which one on Ray that does not come to the end of an order, or of a sweep to its
            next report, counts as hanging; None for ten times what any took so far, and ten minutes at least.
        strategy: how workers train together: ``ddp``, each with all weights.

    Raises:
        SettingError: if a setting is out of its range.
    """

    number: int = 1
    cpus: float = 1
    gpus: float = 0
    workers: int = 1
    gpus_per_worker: float = 0
    hang_after: float | None = None
    at_least: int | None = None
    strategy: str = "ddp"

    def __post_init__(self) -> None:
        check_fields(self)
        check_team(self.number, key="number")
        if not SMALLEST_SHARE <= self.cpus < math.inf:
            raise SettingError("cpus", f"must be at least {SMALLEST_SHARE} and finite, got {self.cpus:g}")
        for key in ("gpus", "gpus_per_worker"):
            given = getattr(self, key)
            if not (given == 0 or SMALLEST_SHARE <= given < math.inf):
                raise SettingError(key, f"must be 0, or at least {SMALLEST_SHARE} and finite, got {given:g}")
        self._check_workers()
        if self.at_least is not None and not 1 <= self.at_least <= self.number:
            raise SettingError(
                "at_least", f"must be from 1 to {self.number}, the number of trainers, got {self.at_least}"
            )
        if self.hang_after is not None and not 0 < self.hang_after < math.inf:
            raise SettingError("hang_after", f"must be above 0 and finite, got {self.hang_after:g}")

    def _check_workers(self) -> None:
        if self.strategy == "fsdp":
            raise SettingError(
                "strategy",
                "fsdp is for replay: tuning needs all weights in each worker; leave it out, and follow the"
                " schedule that was found with `selftune replay DIR --workers N --strategy fsdp`",
            )
        if self.strategy != "ddp":
            raise SettingError("strategy", f"must be ddp, got {self.strategy!r}")
        if self.workers < 1:
            raise SettingError("workers", f"must be at least 1, got {self.workers}")
        if self.gpus and self.gpus_per_worker:
            raise SettingError("gpus_per_worker", "says the same as gpus; give one of them")
        if self.workers == 1:
            return
        if self.gpus:
            raise SettingError("gpus", "is for trainers of one worker; give gpus_per_worker instead")
        if self.gpus_per_worker not in (0, 1):
            raise SettingError(
                "gpus_per_worker",
                f"must be 0 or 1 with several workers, which train on a GPU each, got {self.gpus_per_worker:g}",
            )

    @property
    def gpus_each(self) -> float:
        """GPUs of each worker."""
        return self.gpus or self.gpus_per_worker

    @property
    def device(self) -> str:
        return "cuda" if self.gpus_each else "cpu"


@dataclass(frozen=True, eq=False)
class Study:
    """A study, as data: its parts fit together, which is checked when it is made and only then.

    How it is run, shown and kept is what its ``strategy`` knows.

    Args:
        study: its name.
        objective: what is trained, or the problem that is solved.
        budget: how long.
        regularizers: what acts on the network; unbound, each trainer binds its own copies.
        method: the settings of a bilevel method.
        trainers: how many, and what each of them gets.
        seed: everything random follows from it.
        diagnostics: what is measured between hyper-steps.
        metric: what says which network is the best.
        horizon: how the schedule is compared with its last values; None if it is not.
        device: a torch device for the networks; None for what the trainers have.
        text: that of its file, for the copy in the output folder.

    Raises:
        Mistakes: all that does not fit together; keys are those of a study file.
        SettingError: if a setting is out of its range.

    >>> from selftune.lower_level.objective import tasks
    >>> from selftune.hyperparameters import Tune
    >>> from selftune.regularization.regularizer import built_regularizers
    >>> dropout = built_regularizers({"dropout": {"rate": Tune(0.1)}})
    >>> Study("example", tasks["digits"](hidden=(16,)), Budget(steps=500), dropout).space.names
    ('dropout.rate',)
    """

    study: str
    objective: NetworkObjective | SmoothObjective
    budget: Budget
    regularizers: tuple[Regularizer, ...] = ()
    method: Any = field(default_factory=SelfTuningSettings)
    trainers: Trainers = Trainers()
    seed: int = 0
    diagnostics: tuple[Measurement, ...] = ()
    metric: str = "validation_loss"
    horizon: Horizon | None = None
    device: str | None = None
    text: str = ""

    def __post_init__(self) -> None:
        check_seed(self.seed)
        found = list(self.strategy.misfits())
        try:
            if not found:  # numbers take the place of ``auto``: from here on they are starts like any others
                object.__setattr__(self, "regularizers", self.strategy.started())
        except SettingError as error:
            found.append(error)
        else:
            if not any(mistake.key == "method.name" for mistake in found):
                found += self.strategy.mistakes()
        found = found or [*self.strategy.growth_mistakes(), *self.strategy.horizon_mistakes()]
        if found:
            raise Mistakes(found)

    @cached_property
    def strategy(self) -> Strategy:
        """What knows how studies of this shape of objective are checked, run, shown and kept."""
        return strategy_for(self.objective)(self)

    @property
    def space(self) -> Space:
        """The hyperparameters, tuned and fixed: those of the regularizers, or of a smooth objective itself."""
        return self.strategy.space

    @property
    def mode(self) -> Literal["min", "max"]:
        """Whether a smaller or a larger ``metric`` is better."""
        measured = {name: better for m in self.diagnostics for name, better in m.better.items()}
        return measured.get(self.metric) or mode_of(self.metric)

    @property
    def method_name(self) -> str:
        return of_settings(self.method)[0]

    @property
    def form(self) -> NetworkForm | SmoothForm:
        """What the method is to networks, or to smooth problems."""
        return of_settings(self.method)[1]
