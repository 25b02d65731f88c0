"""What a sweep's driver knows, in files of our own: a killed sweep goes on from them, and nothing is unpickled."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ray.tune import Callback

from selftune.schedulers import ray_internals
from selftune.schedulers.errors import refuse_earlier
from selftune.schedulers.sweep.history import Event, read_history
from selftune.schedulers.sweep.old_checkpoints import OldCheckpoints
from selftune.schedulers.sweep.records import VALUES, TrialRecords
from selftune.schedulers.sweep.saved_trial import SavedTrial, start_of
from selftune.schedulers.sweep.trial_scheduler import SweepScheduler
from selftune.storage.kept_state import KeptState

KIND = "record"
_EVERY = 1.0  # seconds between two records without a new checkpoint


@dataclass(frozen=True)
class SweepState:
    """What a record holds.

    Args:
        run: number of the driver that wrote it; each one has a folder of Tune's of its own.
        records, scheduler: what ``state_dict`` gave.
        starts: what each trial that has not ended goes on from, by number.
        saved: the checkpoints of each of them that are kept, the newest last.
        events: all that has happened.
    """

    run: int
    records: Mapping[str, Any]
    scheduler: Mapping[str, Any]
    starts: Mapping[int, SavedTrial]
    saved: Mapping[int, list[SavedTrial]]
    events: list[Event]


class SweepRecord(Callback):
    """Writes the record of a sweep whenever a trial has saved a checkpoint, and about once a second.

    It tells scheduler and records what Tune tells callbacks alone, too.

    Args:
        folder: of the records, with Tune's folders below.
        kept: checkpoints of a trial that Tune keeps.
        state: what the driver before this one left, if there was one.
    """

    def __init__(
        self,
        folder: Path,
        scheduler: SweepScheduler,
        records: TrialRecords,
        kept: int,
        state: SweepState | None = None,
    ) -> None:
        self._folder, self._scheduler, self._records, self._most = folder, scheduler, records, kept
        self._kept = KeptState(folder, KIND, KIND)
        self._run = 0 if state is None else state.run + 1
        self._saved = {} if state is None else {number: list(saved) for number, saved in state.saved.items()}
        self._old = OldCheckpoints(folder, self.run_name)
        self._named = set() if state is None else _named(state.starts, state.saved)  # by the record before
        self._is_due = False
        self._next = 0.0

    @property
    def run_name(self) -> str:
        """The name of this driver's folder of Tune's."""
        return run_name(self._run)

    @property
    def history(self) -> Path:
        """Where this driver keeps all that happens."""
        return _history(self._folder, self._run)

    def clear(self) -> None:
        """Removes what a driver has left that was killed before its first record, and what no record needs."""
        shutil.rmtree(self._folder / self.run_name, ignore_errors=True)
        for run in range(self._run - 2):  # of two drivers before this one, a record may be there
            _history(self._folder, run).unlink(missing_ok=True)

    def setup(self, stop: Any = None, num_samples: Any = None, total_num_samples: Any = None, **info: Any) -> None:
        self._records.begin()

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        start = start_of(trial)
        self._scheduler.on_trial_start(trial)
        self._records.started(trial.trial_id, trial.config[VALUES], 0 if start is None else start.step)

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any
    ) -> None:
        self._scheduler.on_any_result(trial, result)

    def on_trial_save(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        ray_internals.forget_failures(trial)
        start = start_of(trial)
        if start is not None:
            number = self._records.number_of(trial.trial_id)
            self._saved[number] = [*self._saved.get(number, []), start][-self._most :]
            self._is_due = True

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self._records.ended(trial.trial_id)

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self._records.failed(trial.trial_id, trial.config[VALUES], self._scheduler.failure(trial))

    def on_step_end(self, iteration: int, trials: list[Any], **info: Any) -> None:
        if self._is_due or time.monotonic() >= self._next:
            self.write()

    def on_experiment_end(self, trials: list[Any], **info: Any) -> None:
        self.write()

    def write(self) -> None:
        """Writes the record; the one that is there is kept as the one before."""
        if self._scheduler.is_rebuilding:
            return  # what was there before this driver is still there
        going = self._scheduler.going
        starts = {number: start for number, trial in going.items() if (start := start_of(trial)) is not None}
        saved = {number: self._saved.get(number, []) for number in going}
        state = {
            "run": self._run,
            "records": self._records.state_dict(),
            "scheduler": self._scheduler.state_dict(),
            "starts": {number: self._below(start) for number, start in starts.items()},
            "saved": {number: list(map(self._below, one)) for number, one in saved.items()},
        }
        self._kept.save(state)
        self._forget_old(_named(starts, saved))
        self._is_due = False
        self._next = time.monotonic() + _EVERY

    def _forget_old(self, named: set[Path]) -> None:
        """Removes what earlier drivers have saved of trials of which this one has, and what no record names."""
        own = self._folder / self.run_name
        newer = [number for number, saved in self._saved.items() if saved and saved[-1].folder.is_relative_to(own)]
        self._old.forget(map(trial_folder, newer), named | self._named)
        self._named = named

    def _below(self, saved: SavedTrial) -> tuple[int, str]:
        return saved.step, os.path.relpath(saved.folder, self._folder)


def _named(starts: Mapping[int, SavedTrial], saved: Mapping[int, list[SavedTrial]]) -> set[Path]:
    """The folders of the checkpoints that a record names."""
    return {one.folder for one in starts.values()} | {one.folder for kept in saved.values() for one in kept}


def run_name(run: int) -> str:
    """The name of a driver's folder of Tune's."""
    return f"run-{run}"


def trial_folder(number: int) -> str:
    """The name of a trial's folder in that of Tune."""
    return f"trial-{number}"


def read_sweep(folder: Path) -> SweepState | None:
    """What the last driver left; what the one before left where that is damaged, and None if there is nothing.

    Raises:
        DamagedFile: if neither can be read.
        SchedulerError: if an earlier version of selftune ran here.
    """
    refuse_earlier(folder, "sweep")

    def with_events(state: dict[str, Any]) -> dict[str, Any]:
        events = read_history(_history(folder, state["run"]), state["scheduler"]["history"])
        return {**state, "events": events}

    state = KeptState(folder, KIND, KIND).load({}, with_events)
    if state is None:
        return None

    def there(saved: tuple[int, str]) -> SavedTrial:
        return SavedTrial(saved[0], folder / saved[1])

    starts = {number: there(saved) for number, saved in state["starts"].items()}
    saved = {number: list(map(there, saved)) for number, saved in state["saved"].items()}
    return SweepState(state["run"], state["records"], state["scheduler"], starts, saved, state["events"])


def _history(folder: Path, run: int) -> Path:
    return folder / f"history-{run}.frames"
