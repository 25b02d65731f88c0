"""The scheduler of a sweep: one of Tune's own, with a memory that survives, a limit of trials, and a budget."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from ray.tune import Checkpoint
from ray.tune.experiment import Trial
from ray.tune.schedulers import TrialScheduler

from selftune.schedulers import ray_internals
from selftune.schedulers.ending import Ending
from selftune.schedulers.failures import is_full_disk, last_failure
from selftune.schedulers.hangs import Hangs
from selftune.schedulers.sweep import history
from selftune.schedulers.sweep.admission import Admission
from selftune.schedulers.sweep.history import History, generators, plain, set_generators
from selftune.schedulers.sweep.past import NOTHING, Past
from selftune.schedulers.sweep.records import NUMBER, START, STEP, TrialRecords
from selftune.schedulers.sweep.saved_trial import SavedTrial, start_of

if TYPE_CHECKING:
    from selftune.schedulers.sweep.sweep_record import SweepState

TIME = "scheduler_time"
"""What schedulers compare trials by: training steps, in their unit."""

_WORST = 1e30  # where a trial has diverged; infinity would make quantiles of others not a number


class SweepScheduler(TrialScheduler):
    """Passes Tune's hooks on to one of its schedulers, and keeps what it passed on in a ``History``.

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
        self._left: SweepState | None = None
        self._interrupted: list[Any] = []
        self._depth = 0
        self.history = History()  # given anew after Tune has pickled the scheduler
        self._heard: str | None = None
        self.ending: Ending | None = None  # given after Tune has pickled the scheduler, as is the next
        self.hangs = Hangs()
        self._failure: OSError | None = None
        self._reports: dict[str, int] = {}  # since the trial started last
        self._awaited: set[str] = set()
        self._reported: set[str] = set()

    def set_search_properties(self, metric: str | None, mode: str | None, **spec: Any) -> bool:
        ray_internals.count_lost_workers_as_failures()
        return True  # the scheduler inside knows them

    @property
    def going(self) -> dict[int, Any]:
        """The trials that have not ended, by number."""
        return {trial.config[NUMBER]: trial for trial in self.admission.all()}

    @property
    def is_rebuilding(self) -> bool:
        """Whether the trials that an earlier driver began are not all there yet."""
        return self._left is not None

    def on_trial_start(self, trial: Any) -> None:
        """A trial has got its place on the cluster; told by the callback."""
        self.admission.started(trial)
        self._interrupted = [one for one in self._interrupted if one is not trial]
        self._note(history.STARTED, trial)
        self._reports[trial.trial_id] = 0

    def on_any_result(self, trial: Any, result: Mapping[str, Any]) -> None:
        """A trial has reported; told by the callback, for Tune tells a scheduler of all reports but the last."""
        if self._has_ended:
            return
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
        if trial.storage is not None:
            trial.init_local_path()  # at its end Tune asks for the folders of all, also of those that only waited
        if self._left is not None:
            trial.set_status(trial.PAUSED)
            self.admission.added(trial, new=trial.config[NUMBER] in self._left.scheduler["waiting"])
            return
        self.admission.added(trial, new=True)
        self._note(history.ADDED, trial, _config(trial), trial.status == trial.PAUSED)
        self._add(trial)

    def on_trial_error(self, tune_controller: Any, trial: Any) -> None:
        if is_full_disk(self.failure(trial)):  # every trial would fail, and the sweep would end with what it has
            self._failure = OSError(f"trial {trial.config[NUMBER]}: {self.failure(trial)}")
            return
        if trial.should_recover():
            self.records.departed(trial.trial_id, self.failure(trial))
            self._goes_back(trial, start_of(trial))
            return
        self.admission.ended(trial)
        self._note(history.FAILED, trial)
        with self._deciding():
            self.inner.on_trial_error(tune_controller, trial)

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> Any:
        if self._has_ended:  # its checkpoint would not be there any more: another run does this work again
            return TrialScheduler.NOOP
        self.records.reported(trial.trial_id, result)
        self._heard = trial.trial_id
        if not self.records.lasts_for({trial.config[NUMBER], *self._training()}):
            return TrialScheduler.STOP
        seen, drawn = self._seen(result), generators() if self._only_shares_time else None
        with self._deciding():
            decision = self.inner.on_trial_result(tune_controller, trial, seen)
        if decision == TrialScheduler.PAUSE and self._only_shares_time and self.admission.has_place():
            decision = TrialScheduler.CONTINUE  # for others there is room beside it
        self._note(history.REPORTED, trial, self._plain(seen), decision, self._copied(drawn))
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
        seen = self._seen(result)
        self._note(history.COMPLETED, trial, self._plain(seen))
        with self._deciding():
            self.inner.on_trial_complete(tune_controller, trial, seen)

    def on_trial_remove(self, tune_controller: Any, trial: Any) -> None:
        self.admission.ended(trial)
        self._note(history.REMOVED, trial)
        with self._deciding():
            self.inner.on_trial_remove(tune_controller, trial)

    def choose_trial_to_run(self, tune_controller: Any) -> Any:
        if self._failure is not None:
            raise self._failure
        if not self._is_ready():
            return None
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
        if self.admission.can_start():
            for trial in self._interrupted:
                if trial.status == trial.PAUSED:
                    return trial
        chosen = self.inner.choose_trial_to_run(tune_controller)
        if chosen is not None and chosen.status == chosen.PENDING:
            # it starts already, and that takes seconds, in which others can start too
            return self.admission.next_to_start() or chosen
        return chosen

    @property
    def _has_ended(self) -> bool:
        """Whether the run ends in this round of Tune's loop, in which it still hears one more event."""
        return self.ending is not None and self.ending.has_ended

    def _end(self, ending: Ending) -> None:
        """Starts no more trials; ends the run once those that train have reported, which saves their state.

        A trial that Tune had begun to start is not waited for, unless it has reported meanwhile.
        """
        if not self.admission.is_closed:
            self.admission.is_closed = True
            self._awaited = {trial.trial_id for trial in self.admission.trials(Trial.RUNNING)}
        due = self._awaited - self._reported
        waits = [
            trial for trial in self.admission.trials(Trial.RUNNING) if trial.is_saving or trial.trial_id in due
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
        """What is known beside the history, by the numbers of trials."""
        going = self.going
        unstarted = set(self.admission.unstarted())
        return {
            "history": len(self.history),
            "going": {number: _config(trial) for number, trial in going.items()},
            "paused": {number for number, trial in going.items() if self._is_paused(trial)},
            "waiting": {number for number, trial in going.items() if trial.trial_id in unstarted},
            "stopped": {number for number, trial in going.items() if trial.trial_id in self._stopped},
            "random": generators(),
        }

    def go_on(self, state: SweepState) -> None:
        """Goes on from what an earlier driver left, once Tune has its trials again."""
        self._left = state
        self.admission.is_rebuilding = True

    def configs(self) -> list[dict[str, Any]]:
        """The configs of the trials that go on, in the order in which they were drawn."""
        assert self._left is not None
        starts, going = self._left.starts, self._left.scheduler["going"]
        return [
            {**going[number], **({START: _as_config(starts[number])} if number in starts else {})}
            for number in sorted(going)
        ]

    def _is_paused(self, trial: Any) -> bool:
        return bool(trial.status == trial.PAUSED) and trial not in self._interrupted

    def _is_ready(self) -> bool:
        """Whether all trials are there; once they are, the scheduler hears what happened to them."""
        state, going = self._left, self.going
        if state is None:
            return True
        if state.scheduler["going"].keys() - going.keys():
            return False
        configs = self.configs()
        self._left, self.admission.is_rebuilding = None, False
        ids = {number: trial_id for trial_id, number in state.records["numbers"].items()}
        Past(self.inner, going, ids, self._add).repeat(state.events)
        for config in configs:
            trial = going[config[NUMBER]]
            ray_internals.forget_checkpoint(trial)
            trial.set_config(config)
            trial.status = trial.PAUSED
            if config[NUMBER] not in state.scheduler["paused"]:
                self._interrupted.append(trial)
                self._goes_back(trial, state.starts.get(config[NUMBER]))
            if config[NUMBER] in state.scheduler["stopped"]:
                self._stopped.add(trial.trial_id)
        rebuilt = getattr(self.inner, "rebuilt", None)
        if rebuilt is not None:
            rebuilt(lambda trial, step: _checkpoint(state.saved.get(trial.config[NUMBER], ()), step))
        set_generators(state.scheduler["random"])
        self.admission.is_filling = getattr(self.inner, "is_filling", False)
        return True

    def _note(self, kind: str, trial: Any, *more: Any) -> None:
        """Keeps what the scheduler hears, but not what it has itself brought about meanwhile: it will again."""
        if not self._depth:
            self.history.append([kind, trial.config[NUMBER], *more])

    def _goes_back(self, trial: Any, start: SavedTrial | None) -> None:
        """A trial starts again from its last checkpoint, which may be older than its last report."""
        goes_back = getattr(self.inner, "goes_back", None)
        if goes_back is not None:
            time = 0.0 if start is None else start.step / self._unit
            self._note(history.WENT_BACK, trial, time)
            goes_back(trial, time)

    @contextmanager
    def _deciding(self) -> Iterator[None]:
        self._depth += 1
        try:
            yield
        finally:
            self._depth -= 1

    def _copied(self, drawn: list[Any] | None) -> list[Any] | None:
        copied = getattr(self.inner, "copied", None)
        if copied is None:
            return None
        self.inner.copied = None
        donor, config = copied
        return [donor.config[NUMBER], {key: entry for key, entry in config.items() if key != START}, drawn]

    def _plain(self, seen: Mapping[str, Any]) -> dict[str, Any]:
        return plain(seen, (self.records.settings.metric, STEP, TIME, "training_iteration", "done"))

    def _add(self, trial: Any) -> None:
        self.inner.on_trial_add(NOTHING, trial)
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


def _config(trial: Any) -> dict[str, Any]:
    return {key: entry for key, entry in trial.config.items() if key != START}


def _as_config(start: SavedTrial) -> dict[str, Any]:
    return {"folder": str(start.folder), "step": start.step}


def _checkpoint(saved: Sequence[SavedTrial], step: int) -> Any:
    """The checkpoint of a step, or the first one after it."""
    there = [one for one in saved if one.step >= step and one.folder.is_dir()]
    return Checkpoint.from_directory(there[0].folder) if there else None
