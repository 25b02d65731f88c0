"""The scheduler of a sweep: one of Tune's own, with a memory that survives, a limit of trials, and a budget."""

from __future__ import annotations

import math
import random
from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import numpy as np
from ray.tune.experiment import Trial
from ray.tune.schedulers import TrialScheduler

from selftune.schedulers import ray_internals
from selftune.schedulers.ending import Ending
from selftune.schedulers.failures import is_full_disk, last_failure
from selftune.schedulers.hangs import Hangs
from selftune.schedulers.sweep.admission import Admission
from selftune.schedulers.sweep.records import NUMBER, STEP, TrialRecords
from selftune.schedulers.sweep.scheduler_state import read_scheduler, scheduler_bytes

TIME = "scheduler_time"
"""What schedulers compare trials by: training steps, in their unit."""

_WITHOUT_SEARCHER = SimpleNamespace(search_alg=None)
"""What population-based training asks when a trial is added: it wants no searcher that learns, and gets none."""

_WORST = 1e30  # where a trial has diverged; infinity would make quantiles of others not a number


class SweepScheduler(TrialScheduler):
    """Passes Tune's hooks on to one of its schedulers.

    A trial that is queued again after a failure keeps its place there. Where the metric is not a number, the
    scheduler sees a very bad value.

    Args:
        inner: the scheduler that decides.
        records: heard of what it decides.
        admission: the limit of trials at a time.
        unit: training steps of one unit of the scheduler's time.
        keeps_nan: whether it knows what to do with a metric that is not a number.
        only_shares_time: whether it pauses a trial for no other reason than that others wait.
    """

    _supports_buffered_results = False

    def __init__(
        self,
        inner: TrialScheduler,
        records: TrialRecords,
        admission: Admission,
        unit: float = 1.0,
        keeps_nan: bool = False,
        only_shares_time: bool = False,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.inner: Any = inner
        self.records = records
        self.admission = admission
        self._unit = unit
        self._keeps_nan = keeps_nan
        self._only_shares_time = only_shares_time
        self._trials: dict[str, Any] = {}
        self._stopped: set[str] = set()
        self._saved: Mapping[str, Any] | None = None
        self._late: list[Any] = []
        self._heard: str | None = None
        self.ending: Ending | None = None  # given after Tune has pickled the scheduler, as is the next
        self.hangs = Hangs()
        self._failure: OSError | None = None
        self._reports: dict[str, int] = {}  # since the trial started last
        self._awaited: list[Any] = []
        self._reported: set[str] = set()

    def set_search_properties(self, metric: str | None, mode: str | None, **spec: Any) -> bool:
        ray_internals.count_lost_workers_as_failures()
        return True  # the scheduler inside knows them

    @property
    def trial_ids(self) -> list[str]:
        """Ids of the trials that Tune has added."""
        return list(self._trials)

    def on_trial_start(self, trial: Any) -> None:
        """A trial has got its place on the cluster; told by the callback."""
        self.admission.started(trial)
        self._reports[trial.trial_id] = 0

    def on_any_result(self, trial: Any, result: Mapping[str, Any]) -> None:
        """A trial has reported; told by the callback, for Tune tells a scheduler of all reports but the last."""
        self.hangs.done(trial.trial_id)
        self._reports[trial.trial_id] = self._reports.get(trial.trial_id, 0) + 1
        if self._heard != trial.trial_id:
            self.records.reported(trial.trial_id, result)
        self._heard = None

    def failure(self, trial: Any) -> str:
        """Why a trial has failed, in one line."""
        return self.hangs.reason(trial.trial_id) or last_failure(trial.error_file)

    # Tune's hooks ------------------------------------------------------------------------------------

    def on_trial_add(self, tune_controller: Any, trial: Any) -> None:
        if trial.trial_id in self._trials:
            return  # it has failed and is queued again
        self._trials[trial.trial_id] = trial
        self.records.added(trial.trial_id, trial.config[NUMBER])
        if trial.is_finished():
            new = False
        elif self._saved is not None and trial.trial_id in self._saved["trials"]:
            new = False
            if trial.trial_id in self._saved["paused"]:
                trial.set_status(trial.PAUSED)
            self.admission.added(trial, new=trial.trial_id in self._saved["waiting"])
        else:
            new = True
            self.admission.added(trial, new=True)
        if self._saved is not None:
            if new:
                self._late.append(trial)
        elif new:
            self._add(trial)

    def on_trial_error(self, tune_controller: Any, trial: Any) -> None:
        if is_full_disk(self.failure(trial)):  # every trial would fail, and the sweep would end with what it has
            self._failure = OSError(f"trial {trial.config[NUMBER]}: {self.failure(trial)}")
            return
        if trial.should_recover():
            self.records.departed(trial.trial_id, self.failure(trial))
            return
        self.admission.ended(trial)
        self._ready(tune_controller)
        self.inner.on_trial_error(tune_controller, trial)

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> Any:
        self._ready(tune_controller)
        self.records.reported(trial.trial_id, result)
        self._heard = trial.trial_id
        if not self.records.lasts_for({trial.config[NUMBER], *self._training()}):
            return TrialScheduler.STOP
        decision = self.inner.on_trial_result(tune_controller, trial, self._seen(result))
        if decision == TrialScheduler.PAUSE and self._only_shares_time and self.admission.has_place():
            decision = TrialScheduler.CONTINUE  # for others there is room beside it
        if decision == TrialScheduler.STOP:
            self._stopped.add(trial.trial_id)
        elif decision == TrialScheduler.PAUSE:
            self.records.paused(trial.trial_id)
        elif self.admission.is_closed:
            self._reported.add(trial.trial_id)
            return TrialScheduler.NOOP  # it goes on from its checkpoint, in another run
        return decision

    def on_trial_complete(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> None:
        self.admission.ended(trial)
        self._ready(tune_controller)
        self.inner.on_trial_complete(tune_controller, trial, self._seen(result))

    def on_trial_remove(self, tune_controller: Any, trial: Any) -> None:
        self.admission.ended(trial)
        self._ready(tune_controller)
        self.inner.on_trial_remove(tune_controller, trial)

    def choose_trial_to_run(self, tune_controller: Any) -> Any:
        if self._failure is not None:
            raise self._failure
        self._ready(tune_controller)
        self._end_hanging()
        if self.ending is not None and self.ending.asked():
            self._end(self.ending)
            return None
        for trial_id in sorted(self._stopped):  # stopped, but the driver died while its last state was saved
            trial = self._trials[trial_id]
            if trial.status in (trial.PENDING, trial.PAUSED):
                tune_controller.stop_trial(trial)
        self._stop_excess(tune_controller)
        if not self.admission.has_room():
            return None
        chosen = self.inner.choose_trial_to_run(tune_controller)
        if chosen is not None and chosen.status == chosen.PENDING:
            # it starts already, and that takes seconds, in which others can start too
            return self.admission.next_to_start() or chosen
        return chosen

    def _end(self, ending: Ending) -> None:
        """Starts no more trials; ends the run once those that train have reported, which saves their state."""
        if not self.admission.is_closed:
            self.admission.is_closed = True
            self._awaited = self.admission.trials(Trial.RUNNING)
        waits = [
            trial
            for trial in self._awaited
            if trial.status == Trial.RUNNING and (trial.is_saving or trial.trial_id not in self._reported)
        ]
        if not waits and not ending.has_ended:
            ending.now()

    def _end_hanging(self) -> None:
        """Ends processes of trials that hang; Tune then starts them again, like any that died."""
        if not self.hangs.is_due():
            return
        for trial in self.admission.trials(Trial.RUNNING):
            reports = self._reports.get(trial.trial_id, 0)
            work: str | None = f"report {reports + 1} since its start"
            if trial.is_saving:
                work = "a checkpoint"
            elif trial.trial_id in self._reported:
                work = None  # it waits for the end of the run
            why = self.hangs.look(trial.trial_id, work, first=not reports)
            if why is not None:
                self.records.hung(trial.trial_id, why)
                ray_internals.end_process(trial)

    def _training(self) -> set[int]:
        return {trial.config[NUMBER] for trial in self.admission.trials(Trial.RUNNING)}

    def _stop_excess(self, controller: Any) -> None:
        """Stops trials that wait, and for which the budget does not last beside those that train or will soon."""
        soon = self._training()
        for trial in self.admission.waiting():
            if not self.records.lasts_for({trial.config[NUMBER], *soon}):
                controller.stop_trial(trial)
            elif trial.status == Trial.PENDING:
                soon.add(trial.config[NUMBER])

    def debug_string(self) -> str:
        return str(self.inner.debug_string())

    # State -------------------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        if self._saved is not None:
            return dict(self._saved)
        return {
            "inner": scheduler_bytes(self.inner, self._shared()),
            "trials": set(self._trials),
            "paused": set(self.admission.paused()),
            "waiting": set(self.admission.unstarted()),
            "stopped": set(self._stopped),
            "random": (random.getstate(), np.random.get_state()),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Keeps the state until Tune has added the trials that it speaks of."""
        self._saved = state

    def _ready(self, controller: Any) -> None:
        if self._saved is None:
            return
        state, self._saved = self._saved, None
        gone = read_scheduler(self.inner, state["inner"], self._trials, self._shared())
        self._stopped = set(state["stopped"])
        python, numpy = state["random"]
        random.setstate(python)
        np.random.set_state(numpy)
        restored = getattr(self.inner, "restored", None)
        if restored is not None:
            restored()
        self.admission.is_filling = getattr(self.inner, "is_filling", False)
        for trial in gone:
            self.inner.on_trial_remove(controller, trial)
        late, self._late = self._late, []
        for trial in late:
            self._add(trial)

    def _shared(self) -> dict[str, Any]:
        return {"records": self.records}

    def _add(self, trial: Any) -> None:
        self.inner.on_trial_add(_WITHOUT_SEARCHER, trial)
        if trial.status == trial.PAUSED:
            held_back = getattr(self.inner, "held_back", None)
            if held_back is not None:
                held_back(trial)
        self.admission.is_filling = getattr(self.inner, "is_filling", False)

    def _seen(self, result: Mapping[str, Any]) -> dict[str, Any]:
        seen, metric = dict(result), self.records.settings.metric
        if not self._keeps_nan and metric in seen and not math.isfinite(seen[metric]):
            seen[metric] = _WORST if self.records.settings.mode == "min" else -_WORST
        if STEP in seen:
            seen[TIME] = seen[STEP] / self._unit
        return seen
