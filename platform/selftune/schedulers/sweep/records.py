"""The driver's book of a sweep: what is known of each trial, and what all of them cost."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from typing import Any

from selftune.listener import Place
from selftune.schedulers.errors import SchedulerError
from selftune.search.settings import SearchSettings
from selftune.search.trial_record import TrialRecord, TrialsListener, TrialStatus

NUMBER, VALUES = "number", "values"
"""What a trial's config holds: its number, and what was drawn for it by key of the study file."""

START = "start"
"""Of a trial that an earlier driver began: the ``folder`` of its last checkpoint, and its ``step``."""

STEP = "training_step"

BEST_VALUE, BEST_STEP = "best", "best_step"
"""What a result may say of the network that the trial keeps: the metric's value, and its training step."""

WORK = "work"
"""How many training steps all of a trial's networks took since its last result; else the records count its own."""

MOST_FAILURES = 10
"""Trials that may fail one after the other without a report."""

SECONDS = "seconds"
"""How many seconds its trainers computed since its last result; else Tune's own time of a result."""

FAILED = "failed"
"""Whether a last result is that of a trial that could not go on; why, its message says."""


def accept(values: Mapping[str, Any]) -> str | None:
    """Refuses no values."""
    return None


class TrialRecords:
    """Keeps the records of all trials and tells a listener of every change.

    Training steps that a trial has copied from another are not counted as spent, and those that it does again
    after a crash are.

    Args:
        settings: of the search: its metric and budget.
        members: networks of a trial.
        trial_steps: training steps of each of them.
    """

    def __init__(self, settings: SearchSettings, members: int, trial_steps: int) -> None:
        self.settings = settings
        self.members = members
        self.trial_steps = trial_steps
        self.check: Callable[[Mapping[str, Any]], str | None] = accept
        self.listener = TrialsListener()
        self.trials: dict[int, TrialRecord] = {}
        self.spent = 0
        self.seconds = 0.0
        self.drawn = 0
        self.is_exhausted = False
        self._numbers: dict[str, int] = {}
        self._steps: dict[int, int] = {}
        self._finished: set[int] = set()
        self._inherited: dict[int, TrialRecord] = {}
        self._reported = False
        self._failures = 0
        self._before = 0.0
        self._start: float | None = None

    # What is known ------------------------------------------------------------------------------------

    @property
    def time(self) -> float:
        """Seconds since the search began, over all of its runs."""
        return self._before + (0.0 if self._start is None else time.monotonic() - self._start)

    @property
    def is_spent(self) -> bool:
        """Whether the budget is used up: it does not last for the first report of one more trial."""
        return not self.lasts_for((), new=1)

    def lasts_for(self, numbers: Collection[int], new: int = 0) -> bool:
        """Whether the budget lasts for the next reports of all these trials, and of so many ``new`` ones.

        Steps that a line search takes beside those of its network are not foreseen, nor are those of a round of
        orders after the step at which a report is due.
        """
        steps, seconds = self.settings.steps, self.settings.seconds
        if seconds is not None and self.seconds >= seconds:
            return False
        due = sum(map(self._next_work, numbers)) + new * self._work_from(0)
        return steps is None or self.spent + due <= steps

    def _next_work(self, number: int) -> int:
        return self._work_from(self.trials[number].training_step if number in self.trials else 0)

    def _work_from(self, step: int) -> int:
        """Training steps of all networks of a trial from this step to its next report."""
        every = self.settings.report_every
        return (min((step // every + 1) * every, self.trial_steps) - step) * self.members

    @property
    def is_enough(self) -> bool:
        """Whether as many trials were drawn as there should be."""
        return self.settings.trials is not None and len(self._numbers) >= self.settings.trials

    @property
    def is_over(self) -> bool:
        """Whether nothing is left to do: all trials have ended, and no more are to be drawn."""
        ended = all(number in self.trials and self.trials[number].has_ended for number in self._numbers.values())
        return ended and (self.is_exhausted or self.is_spent or self.is_enough)

    def number_of(self, trial_id: str) -> int:
        return self._numbers[trial_id]

    def best_of(self, number: int) -> float | None:
        """The best value of the metric that a trial has met."""
        return self.trials[number].best if number in self.trials else None

    # What happens -------------------------------------------------------------------------------------

    def begin(self) -> None:
        """The search begins, or goes on from the state that was loaded."""
        if self._start is None:
            self._start = time.monotonic()
            self.listener.resumed(dict(self.trials))

    def next_number(self) -> int:
        """The number of the next sample."""
        self.drawn += 1
        return self.drawn - 1

    def added(self, trial_id: str, number: int) -> None:
        """Tune has a trial; one that an earlier driver began has another id now."""
        self._numbers = {known: one for known, one in self._numbers.items() if one != number}
        self._numbers[trial_id] = number

    @property
    def ids(self) -> dict[int, str]:
        """The ids of trials, by number."""
        return {number: trial_id for trial_id, number in self._numbers.items()}

    def refused(self, number: int, values: Mapping[str, Any], reason: str) -> None:
        self._heard(TrialRecord(number, values, "refused", message=reason))

    def started(self, trial_id: str, values: Mapping[str, Any], step: int) -> None:
        """A trial trains from now on, from ``step`` on: that of the checkpoint that it starts from, or 0."""
        number = self._numbers[trial_id]
        self._steps[number] = step
        record = self.trials.get(number, TrialRecord(number, values))
        self._heard(replace(record, values=values, status="running", training_step=step))

    def reported(self, trial_id: str, result: Mapping[str, Any]) -> None:
        number = self._numbers[trial_id]
        record, step = self.trials[number], int(result[STEP])
        if "hostname" in result:
            self.listener.placed(number, Place(result["hostname"], result["pid"]))
        work = int(result.get(WORK, max(0, step - self._steps[number]) * self.members))
        self._steps[number] = step
        seconds = float(result.get(SECONDS, result.get("time_this_iter_s", 0.0)))
        self.spent += work
        self.seconds += seconds
        if result.get("done") and not result.get(FAILED):
            self._finished.add(number)
        if not self._reported and self.settings.metric not in result:
            known = ", ".join(sorted(_measures(result)))
            raise ValueError(f"no trial reports {self.settings.metric!r}; trials report {known}")
        self._reported = True
        self._failures = 0
        best, best_step = self._better(record, self._inherited.pop(number, record), result, step)
        self._heard(
            replace(
                record,
                status="running",
                training_step=step,
                spent=record.spent + work,
                seconds=record.seconds + seconds,
                measures=record.measures if result.get(FAILED) else _measures(result),
                best=best,
                best_step=best_step,
                message=str(result.get("message", "")),
            )
        )
        self.trials[number] = replace(self.trials[number], copied=None)

    def departed(self, trial_id: str, reason: str) -> None:
        """A trial has failed, and is started again."""
        self.listener.departed(self._numbers[trial_id], reason)

    def hung(self, trial_id: str, reason: str) -> None:
        """A trial hangs, and is ended."""
        self.listener.hung(self._numbers[trial_id], reason)

    def paused(self, trial_id: str) -> None:
        self._changed(trial_id, "paused")

    def copied(self, trial_id: str, donor_id: str, values: Mapping[str, Any], step: int) -> None:
        """A trial goes on from another's state at ``step``, with new values.

        From its next report on it keeps the better of both their best networks; until then its own.
        """
        number, donor = self._numbers[trial_id], self.trials[self._numbers[donor_id]]
        record = self.trials[number]
        self._heard(
            replace(
                record,
                values=values,
                status="paused",
                training_step=step,
                copied=donor.number,
            )
        )
        self._inherited[number] = donor

    def ended(self, trial_id: str) -> None:
        """A trial has come to its end, or was stopped."""
        number = self._numbers[trial_id]
        if number in self.trials:
            failed = bool(self.trials[number].message)
            self._changed(trial_id, "finished" if number in self._finished else "failed" if failed else "stopped")
        else:
            del self._numbers[trial_id]  # drawn, but stopped before it started

    def failed(self, trial_id: str, values: Mapping[str, Any], message: str) -> None:
        """A trial has failed for good, maybe before it started.

        Raises:
            SchedulerError: if it is one of many that failed without a report: the next ones would, too.
        """
        number = self._numbers[trial_id]
        self.trials.setdefault(number, TrialRecord(number, values))
        self._changed(trial_id, "failed", message)
        self._failures += 1
        if self._failures == MOST_FAILURES:
            raise SchedulerError(
                f"{MOST_FAILURES} trials failed before any reported, the last because of {message}"
            )

    # State --------------------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        return {
            "trials": dict(self.trials),
            "spent": self.spent,
            "seconds": self.seconds,
            "drawn": self.drawn,
            "exhausted": self.is_exhausted,
            "numbers": dict(self._numbers),
            "steps": dict(self._steps),
            "finished": set(self._finished),
            "inherited": dict(self._inherited),
            "time": self.time,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.trials = dict(state["trials"])
        self.spent, self.seconds = state["spent"], state["seconds"]
        self.drawn, self.is_exhausted = state["drawn"], state["exhausted"]
        self._numbers, self._steps = dict(state["numbers"]), dict(state["steps"])
        self._finished = set(state["finished"])
        self._inherited = dict(state["inherited"])
        self._before = state["time"]

    def settle(self, going: Collection[int]) -> None:
        """Ends trials that are over although nobody said so: the driver was killed in between.

        Args:
            going: numbers of those that are not.
        """
        for number, record in self.trials.items():
            if not record.has_ended and number not in going:
                status: TrialStatus = "finished" if number in self._finished else "stopped"
                self.trials[number] = replace(record, status=status)

    def __getstate__(self) -> dict[str, Any]:
        # Ray pickles it once, before the first run: who listens and what is refused is given anew in each run.
        return {**self.__dict__, "check": accept, "listener": TrialsListener()}

    def _better(
        self, record: TrialRecord, donor: TrialRecord, result: Mapping[str, Any], step: int
    ) -> tuple[float | None, int | None]:
        if BEST_VALUE in result:
            return float(result[BEST_VALUE]), int(result[BEST_STEP])
        known = [(record.best, record.best_step), (donor.best, donor.best_step)]
        value = float(result.get(self.settings.metric, math.nan))
        known.append((value if math.isfinite(value) else None, step))
        better = min if self.settings.mode == "min" else max
        found = [(best, at) for best, at in known if best is not None]
        return better(found, key=lambda one: one[0]) if found else (None, None)

    def _changed(self, trial_id: str, status: TrialStatus, message: str | None = None) -> None:
        record = self.trials[self._numbers[trial_id]]
        self._heard(replace(record, status=status, message=record.message if message is None else message))

    def _heard(self, record: TrialRecord) -> None:
        record = replace(record, time=self.time)
        self.trials[record.number] = record
        self.listener.heard(record)


def _measures(result: Mapping[str, Any]) -> dict[str, float]:
    return {
        name: float(value)
        for name, value in result.items()
        if name.startswith("validation_") and isinstance(value, int | float)
    }
