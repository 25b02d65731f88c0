"""What Tune tells of trials, and the memory of a sweep in Tune's snapshots."""

from __future__ import annotations

from typing import Any

from ray.tune import Callback

from selftune.schedulers import ray_internals
from selftune.schedulers.sweep.records import STEP, VALUES, TrialRecords
from selftune.schedulers.sweep.trial_scheduler import SweepScheduler


class SweepCallback(Callback):
    """Carries the memory of scheduler and records through Tune's snapshots, as Tune does not with schedulers.

    Tune saves trials, searcher and callbacks one after the other in one thread, so all tell of the same moment. On
    ``Tuner.restore`` they are objects of one pickle, as they were before the first run, and get their state before
    Tune adds the first trial.
    """

    def __init__(self, scheduler: SweepScheduler, records: TrialRecords) -> None:
        self._scheduler = scheduler
        self._records = records

    def setup(self, stop: Any = None, num_samples: Any = None, total_num_samples: Any = None, **info: Any) -> None:
        self._records.keep(self._scheduler.trial_ids)
        self._records.begin()

    def get_state(self) -> dict[str, Any]:
        return {"records": self._records.state_dict(), "scheduler": self._scheduler.state_dict()}

    def set_state(self, state: dict[str, Any]) -> None:
        self._records.load_state_dict(state["records"])
        self._scheduler.load_state_dict(state["scheduler"])

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        start = trial.latest_checkpoint_result
        step = 0 if start is None else int(start.metrics[STEP])
        self._scheduler.on_trial_start(trial)
        self._records.started(trial.trial_id, trial.config[VALUES], step)

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any
    ) -> None:
        self._scheduler.on_any_result(trial, result)

    def on_trial_save(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        ray_internals.forget_failures(trial)

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self._records.ended(trial.trial_id)

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self._records.failed(trial.trial_id, trial.config[VALUES], self._scheduler.failure(trial))
