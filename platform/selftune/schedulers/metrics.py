"""Metrics of studies and sweeps for Prometheus, through Ray's own export.

| metric | kind | tags beside ``study`` and ``team`` |
| --- | --- | --- |
| ``selftune_training_steps`` | counter | ``member`` |
| ``selftune_hyper_steps`` | counter | |
| ``selftune_faults`` | counter | ``member``, ``kind`` (restart, hang, diverged, lost, outvoted) |
| ``selftune_training_loss``, ``selftune_validation_loss`` | gauge | |
| ``selftune_hyperparameter`` | gauge | ``name`` |

``team`` is the number of the team, of a sweep that of the trial. Ray puts ``ray_`` before the names and ``_total``
after those of counters. Where no agent of Ray runs, as without ``ray[default]``, nobody collects them.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from ray.util.metrics import Counter, Gauge

from selftune.listener import Listener
from selftune.methods.reports import Diverged
from selftune.search import TrialRecord, TrialsListener

if TYPE_CHECKING:
    from selftune.hyperparameters import Space
    from selftune.methods import HyperStep, Report

MOST = 50
"""Hyperparameters that are shown: each is a time series of its own, and a thousand are too many for Prometheus."""
EVERY = 1.0
"""Seconds between two values of a gauge, at least; Prometheus asks more rarely."""


class _Metrics:
    """What Ray is told. The same names in several objects of a process are the same metrics."""

    def __init__(self, study: str) -> None:
        self._study = study
        common = ("study", "team")
        self._training_steps = Counter(
            "selftune_training_steps", "Training steps of a trainer that were done.", (*common, "member")
        )
        self._hyper_steps = Counter("selftune_hyper_steps", "Updates of the hyperparameters.", common)
        self._faults = Counter("selftune_faults", "Trainers that failed, by kind.", (*common, "member", "kind"))
        self._losses = {
            name: Gauge(f"selftune_{name}", f"The {name.replace('_', ' ')} of a team.", common)
            for name in ("training_loss", "validation_loss")
        }
        self._hyperparameter = Gauge(
            "selftune_hyperparameter", "The value of a hyperparameter.", (*common, "name")
        )

    def trained(self, team: int, member: int, steps: int) -> None:
        if steps > 0:
            self._training_steps.inc(steps, tags={**self._tags(team), "member": str(member)})

    def fault(self, team: int, member: int, kind: str) -> None:
        self._faults.inc(tags={**self._tags(team), "member": str(member), "kind": kind})

    def moved(self, team: int) -> None:
        self._hyper_steps.inc(tags=self._tags(team))

    def loss(self, team: int, name: str, value: float) -> None:
        if math.isfinite(value):
            self._losses[name].set(value, tags=self._tags(team))

    def hyperparameter(self, team: int, name: str, value: float) -> None:
        self._hyperparameter.set(value, tags={**self._tags(team), "name": name})

    def _tags(self, team: int) -> dict[str, str]:
        return {"study": self._study, "team": str(team)}


class StudyMetrics(Listener):
    """Tells Ray what happens to a team.

    With a Tuner of one's own: ``SelfTuningScheduler(..., listener=partial(StudyMetrics, "digits"))``.

    Args:
        study: its name.
        team: its number.
        clock: seconds.
    """

    def __init__(self, study: str, team: int = 0, clock: Callable[[], float] = time.monotonic) -> None:
        self._metrics, self._team, self._clock = _Metrics(study), team, clock
        self._names: tuple[str, ...] = ()
        self._steps: dict[int, int] = {}
        self._diverged: set[int] = set()
        self._next = -math.inf

    def started(self, space: Space, members: int) -> None:
        self._names = space.names[:MOST]

    def departed(self, member: int, reason: str) -> None:
        self._metrics.fault(self._team, member, "restart")

    def hung(self, member: int, reason: str) -> None:
        self._metrics.fault(self._team, member, "hang")

    def reported(self, member: int, report: Report) -> None:
        if isinstance(report, Diverged):
            self._diverged.add(member)
        step = int(report.metrics.get("training_step", 0))
        known = self._steps.get(member)
        if known is not None or not report.number:  # after a resume the first report says only where it stands
            self._metrics.trained(self._team, member, step - (known or 0))
        self._steps[member] = step

    def hyper_step(self, step: HyperStep) -> None:
        self._metrics.moved(self._team)
        for member in step.faults:
            self._metrics.fault(self._team, member, "outvoted")
        if self._clock() < self._next:
            return
        self._next = self._clock() + EVERY
        self._metrics.loss(self._team, "training_loss", step.training_loss)
        self._metrics.loss(self._team, "validation_loss", step.validation_loss)
        for name, value in zip(self._names, step.hyperparameters[:MOST].tolist(), strict=True):
            self._metrics.hyperparameter(self._team, name, value)

    def lost(self, member: int, reason: str) -> None:
        self._metrics.fault(self._team, member, "diverged" if member in self._diverged else "lost")


class SweepMetrics(TrialsListener):
    """Tells Ray what happens to the trials of a sweep; each counts as the team of its number.

    ``member`` is 0, the trainer of a trial that Ray Tune knows of; its training steps are those of all members.

    Args:
        study: its name.
    """

    def __init__(self, study: str) -> None:
        self._metrics = _Metrics(study)
        self._trials: dict[int, TrialRecord] = {}

    def resumed(self, trials: Mapping[int, TrialRecord]) -> None:
        self._trials = dict(trials)

    def heard(self, trial: TrialRecord) -> None:
        before = self._trials.get(trial.number, TrialRecord(trial.number, {}))
        self._trials[trial.number] = trial
        self._metrics.trained(trial.number, 0, trial.spent - before.spent)
        if trial.spent > before.spent:
            self._metrics.loss(trial.number, "validation_loss", trial.measures.get("validation_loss", math.nan))
        if trial.status == "failed":
            self._metrics.fault(trial.number, 0, "diverged" if before.message else "lost")
        if before.values != trial.values:
            for key, value in list(trial.values.items())[:MOST]:
                if isinstance(value, int | float) and not isinstance(value, bool):
                    self._metrics.hyperparameter(trial.number, key, float(value))

    def departed(self, number: int, reason: str) -> None:
        self._metrics.fault(number, 0, "restart")

    def hung(self, number: int, reason: str) -> None:
        self._metrics.fault(number, 0, "hang")
