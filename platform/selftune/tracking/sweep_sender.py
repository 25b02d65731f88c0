"""A sweep on an MLflow server: the best so far in a parent run, what a trial drew and reported in one below it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from torch import nn

from selftune.search import TrialRecord
from selftune.search.trial_schedulers import PopulationSettings
from selftune.tracking.points import Row, keys_of
from selftune.tracking.record import Run
from selftune.tracking.search_file import SEARCH_FILE
from selftune.tracking.sender import STUDY, Sender
from selftune.tracking.summary import Summary
from selftune.tracking.trials import Trials
from selftune.tracking.trials_file import TRIALS_FILE, read_trials

TRIAL = "trial "  # and its number: a run's name in the record
_STATUS = {"finished": "FINISHED", "stopped": "FINISHED", "failed": "FAILED"}


class SweepSender(Sender):
    """Sends the folder of a sweep. Samples that were refused trained nothing, and become no run."""

    FILES = ("study.yaml", "winner.yaml", "summary.json", "report.html", SEARCH_FILE, TRIALS_FILE)

    def __init__(self, folder: Path, uri: str, network: Callable[[Path], nn.Module] | None = None) -> None:
        super().__init__(folder, uri, network)
        self._trials: dict[str, TrialRecord] = {}
        self._changes = False  # whether values change on the way

    def _fingerprint(self) -> object:
        path = self.folder / TRIALS_FILE
        return (path.stat().st_size, path.stat().st_mtime_ns) if path.exists() else None

    def _send_rows(self, parent: Run) -> None:
        try:
            trials = read_trials(self.folder)
        except FileNotFoundError:  # followed from its first moment, the sweep has not started yet
            return
        self._changes = isinstance(trials.settings.scheduler, PopulationSettings)
        records: dict[int, list[TrialRecord]] = {}
        for record in trials.records:
            if trials.last[record.number].status != "refused":
                records.setdefault(record.number, []).append(record)
        self._trials = {f"{TRIAL}{number}": own[-1] for number, own in records.items()}
        self._forget_void({f"{TRIAL}{number}": _digest_of(own[0]) for number, own in records.items()})
        self._send_points(parent, partial(_best_rows, trials))
        for number, own in records.items():
            self._send_trial(f"{TRIAL}{number}", own)

    def _forget_void(self, digests: dict[str, str]) -> None:
        """Deletes runs of trials that a resumed sweep does not have behind it, or drew anew with other values."""
        there = self.there
        for name in [name for name in there.runs if name != STUDY]:
            if name in digests and there.trials.get(name) in (None, digests[name]):
                continue
            self.server.client.delete_run(there.runs.pop(name).run_id)
            there.trials.pop(name, None)
            there.parameters = [one for one in there.parameters if one != name]
            self._recorded()

    def _send_trial(self, name: str, records: list[TrialRecord]) -> None:
        first, last = records[0], records[-1]
        run = self._run(name, first.time)
        if name not in self.there.trials:
            self.there.trials[name] = _digest_of(first)
            self._recorded()
        if name not in self.there.parameters:
            self._send_parameters(run, name, {key: _parameter(value) for key, value in first.values.items()})
        self._send_points(run, partial(_trial_rows, records, self._changes))
        self._send_tags(run, {"selftune.status": last.status, "selftune.message": last.message})

    def _send_tags(self, run: Run, tags: dict[str, str]) -> None:
        for name, value in tags.items():
            if run.tags.get(name, "") != value:
                self.server.client.set_tag(run.run_id, name, value)
                run.tags[name] = value
                self._recorded()

    def _results(self, summary: Summary) -> tuple[dict[str, float], tuple[float, int]]:
        at = summary.get("seconds", 0.0), summary.get("spent", 0)
        flat = {f"trials/{status}": float(count) for status, count in summary.get("trials", {}).items()}
        winner = summary.get("winner")
        if winner is not None:
            flat |= {f"winner/{name}": value for name, value in summary.get("measures", {}).items()}
            flat |= {"winner/number": winner["number"], "winner/training_step": winner["training_step"]}
        return flat, at

    def _send_results(self, parent: Run, summary: Summary) -> None:
        super()._send_results(parent, summary)
        winner = summary.get("winner")
        if winner is None:
            return
        # as tags, because a sweep that goes on may find another winner, and parameters cannot change
        best, keys = f"{TRIAL}{winner['number']}", keys_of([f"winner.{key}" for key in winner["values"]])
        values = zip(keys, map(_parameter, winner["values"].values()), strict=True)
        self._send_tags(parent, {"winner": best, **dict(values)})
        for name in self._trials:
            self._send_tags(self.there.runs[name], {"winner": "true" if name == best else ""})

    def _status_of(self, name: str, status: str) -> str:
        trial = self._trials.get(name)
        return status if trial is None else _STATUS.get(trial.status, status)

    def _ended(self, name: str) -> float:
        trial = self._trials.get(name)
        return super()._ended(name) if trial is None else self.there.started / 1000 + trial.time


def _best_rows(trials: Trials, after: int) -> Iterator[Row]:
    """The best so far, by the training steps of all networks together."""
    best = trials.best_so_far()
    key = f"best/{trials.settings.metric}"
    moments = zip(best.spent, best.time, best.value, best.number, strict=True)
    for spent, time, value, number in moments:
        if spent > after:
            yield Row.of(int(spent), {key: float(value), "best/trial": float(number)}, float(time), int(spent))


def _trial_rows(records: list[TrialRecord], changes: bool, after: int) -> Iterator[Row]:
    """What a trial reported beyond what it had spent ``after``; where values change on the way, these, too.

    A report is known by what the trial had spent: one that is done again after a resume is not sent again.
    """
    spent = 0
    for record in records:
        if record.spent <= spent:
            continue
        spent = record.spent
        if spent > after:
            numbers = {name: float(value) for name, value in record.measures.items()}
            numbers |= {"spent": float(spent), "seconds": record.seconds}
            if record.copied is not None:
                numbers["copied"] = float(record.copied)
            if changes:
                numbers |= {f"value/{key}": float(v) for key, v in record.values.items() if _is_number(v)}
            yield Row.of(spent, numbers, record.time, record.training_step)


def _parameter(value: object) -> str:
    """A value as it is written in JSON, so that no digit is lost."""
    return value if isinstance(value, str) else json.dumps(value)


def _digest_of(first: TrialRecord) -> str:
    return hashlib.sha256(json.dumps(first.values, sort_keys=True, default=str).encode()).hexdigest()


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
