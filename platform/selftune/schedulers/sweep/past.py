"""Tells a new scheduler of Ray's what another one was told before it, so that it knows the same."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from types import SimpleNamespace
from typing import Any

from ray.tune.experiment import Trial
from ray.tune.schedulers import TrialScheduler

from selftune.schedulers.sweep.history import (
    ADDED,
    COMPLETED,
    FAILED,
    REMOVED,
    REPORTED,
    STARTED,
    WENT_BACK,
    Event,
    set_generators,
)


class Saved:
    """Stands for a checkpoint that was saved in a run before this one."""


class Past:
    """As much of Tune's controller as schedulers ask for, while they hear what was.

    Args:
        scheduler: the new one.
        trials: those that go on, by number.
        ids: of trials that have ended, by number, as they were called.
        add: tells the scheduler of a trial.
    """

    search_alg = None

    def __init__(
        self, scheduler: Any, trials: Mapping[int, Trial], ids: Mapping[int, str], add: Callable[[Trial], None]
    ) -> None:
        self._scheduler, self._add = scheduler, add
        self._open, self._ids = trials, ids
        self._trials: dict[int, Any] = {}

    def repeat(self, events: Iterable[Event]) -> None:
        """Tells the scheduler all of it; the trials stand as they stood then."""
        for kind, number, *more in events:
            if kind == ADDED:
                self._added(number, *more)
            elif kind == STARTED:
                self._trials[number].status = Trial.RUNNING
            elif kind == REPORTED:
                self._reported(self._trials[number], *more)
            elif kind == WENT_BACK:
                self._scheduler.goes_back(self._trials[number], *more)
            elif kind == COMPLETED:
                self._trials[number].status = Trial.TERMINATED
                self._scheduler.on_trial_complete(self, self._trials[number], *more)
            elif kind == FAILED:
                self._trials[number].status = Trial.ERROR
                self._scheduler.on_trial_error(self, self._trials[number])
            elif kind == REMOVED:
                self.stop_trial(self._trials[number])

    def _added(self, number: int, config: dict[str, Any], is_paused: bool) -> None:
        trial: Any = self._open.get(number)
        if trial is None:
            trial = Trial("ended", config=config, stub=True, trial_id=self._ids.get(number))
        else:
            trial.set_config(config)
        trial.status = Trial.PAUSED if is_paused else Trial.PENDING
        self._trials[number] = trial
        self._add(trial)

    def _reported(self, trial: Any, result: dict[str, Any], decision: str, copied: list[Any] | None) -> None:
        if copied is not None:
            donor, config, drawn = copied
            set_generators(drawn)
            self._scheduler.repeated = self._trials[donor], config
        self._scheduler.on_trial_result(self, trial, result)
        if copied is not None:  # whatever this version of Ray has made of it
            self._scheduler.repeated = None
            trial.set_config(config)
        if decision == TrialScheduler.PAUSE:
            trial.status = Trial.PAUSED

    # What schedulers ask for ---------------------------------------------------------------------------

    def get_trials(self) -> list[Any]:
        return list(self._trials.values())

    def get_live_trials(self) -> list[Any]:
        return [trial for trial in self._trials.values() if not trial.is_finished()]

    def stop_trial(self, trial: Any) -> None:
        if not trial.is_finished():
            trial.status = Trial.TERMINATED
            self._scheduler.on_trial_remove(self, trial)

    def pause_trial(self, trial: Any, should_checkpoint: bool = True) -> None:
        trial.status = Trial.PAUSED

    def _schedule_trial_save(self, trial: Any, result: Any = None) -> Saved:
        return Saved()


NOTHING = SimpleNamespace(search_alg=None)
"""What population-based training asks when a trial is added: it wants no searcher that learns, and gets none."""
