"""How far a sweep is: its trials, its budgets, the best so far, the time left."""

from __future__ import annotations

import heapq
import math
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping

from selftune.search import SearchSettings, TrialRecord, TrialsListener
from selftune.studies.progress import seconds_left, time_left


class SweepProgress(TrialsListener):
    """Keeps what is known of the trials of a sweep, and says how far it is.

    Args:
        settings: of the search; its trials, steps and seconds say how much is left.
        trial_steps: training steps that a trial takes unless it is stopped; None if nobody knows.
        clock: seconds, for the time left.

    >>> progress = SweepProgress(SearchSettings(metric="validation_loss", mode="min", report_every=10, trials=4))
    >>> progress.resumed({})
    >>> progress.heard(TrialRecord(0, {}, "finished", 10, 10, best=0.5, best_step=10))
    >>> progress.progress(), progress.share(), progress.leading(1)[0].number
    ('1/4 trials', 0.25, 0)
    """

    def __init__(
        self,
        settings: SearchSettings,
        trial_steps: int | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._settings, self._trial_steps, self._clock = settings, trial_steps, clock
        self._trials: dict[int, TrialRecord] = {}
        self._met: dict[int, float] = {}  # when each trial met its best value: of equal ones the first leads
        self._sign = 1 if settings.mode == "min" else -1
        self._spent, self._seconds = 0, 0.0
        self._began: tuple[float, float] | None = None  # clock and share done at the first record

    def resumed(self, trials: Mapping[int, TrialRecord]) -> None:
        self._trials = dict(trials)
        self._met = {number: trial.time for number, trial in trials.items()}
        self._spent = sum(trial.spent for trial in trials.values())
        self._seconds = sum(trial.seconds for trial in trials.values())
        self._began = None

    def heard(self, trial: TrialRecord) -> None:
        before = self._trials.get(trial.number)
        self._trials[trial.number] = trial
        self._spent += trial.spent - (0 if before is None else before.spent)
        self._seconds += trial.seconds - (0.0 if before is None else before.seconds)
        if before is None or trial.best != before.best:
            self._met[trial.number] = trial.time
        if self._began is None:
            self._began = self._clock(), self.share()

    def leading(self, number: int) -> list[TrialRecord]:
        """The best trials; those that failed are left out, because what they leave need not be whole."""
        known = [
            (self._sign * trial.best, self._met[trial.number], trial.number)
            for trial in self._trials.values()
            if trial.best is not None and math.isfinite(trial.best) and trial.status != "failed"
        ]
        return [self._trials[found] for *_, found in heapq.nsmallest(number, known)]

    def counts(self) -> Counter[str]:
        """How many trials stand how."""
        return Counter(trial.status for trial in self._trials.values())

    def metric_words(self) -> str:
        """The metric, as it is said."""
        return self._settings.metric.replace("_", " ")

    def budgets(self) -> Iterator[str]:
        """What of each budget is used up, in words."""
        settings = self._settings
        ended = self._done()
        yield f"{ended}/{settings.trials} trials" if settings.trials else f"{ended} trials"
        if settings.steps:
            yield f"{self._spent:,}/{settings.steps:,} training steps"
        if settings.seconds:
            digits = 1 if settings.seconds < 60 else 0
            yield f"{self._seconds:.{digits}f} of {settings.seconds:g} s"

    def progress(self) -> str:
        """How far the sweep is, in words."""
        return ", ".join(self.budgets())

    def share(self) -> float:
        """The share, in [0, 1], of whichever budget will be spent first."""
        settings = self._settings
        shares = []
        if settings.trials:
            done = float(self._done())
            if self._trial_steps:
                going = (trial.training_step for trial in self._trials.values() if not trial.has_ended)
                done += sum(min(1.0, step / self._trial_steps) for step in going)
            shares.append(done / settings.trials)
        if settings.steps:
            shares.append(self._spent / settings.steps)
        if settings.seconds:
            shares.append(self._seconds / settings.seconds)
        return min(1.0, max(shares))

    def seconds_left(self) -> float | None:
        """How long the sweep will go on; None where that cannot be said."""
        return None if self._began is None else seconds_left(self._began, (self._clock(), self.share()))

    def time_left(self) -> str:
        """The same in words; nothing where that cannot be said."""
        return "" if self._began is None else time_left(self._began, (self._clock(), self.share()))

    def _done(self) -> int:
        """Trials that ended; one that was refused is drawn anew."""
        return sum(trial.has_ended and trial.status != "refused" for trial in self._trials.values())
