"""The searcher of a sweep: draws samples, has each checked before it is a trial, and tells what came of it."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from ray.tune.experiment import Trial
from ray.tune.search import Searcher

from selftune.schedulers.errors import SchedulerError
from selftune.schedulers.sweep.admission import Admission
from selftune.schedulers.sweep.history import DRAWN, TOLD, Event, History
from selftune.schedulers.sweep.records import NUMBER, VALUES, TrialRecords
from selftune.schedulers.sweep.samples import Samples

MOST_REFUSALS = 100


class SweepSearcher(Searcher):
    """Gives Tune the samples of a search one after the other.

    It learns a trial's best value, which is that of the network that the trial keeps, and not its last one.

    Args:
        samples: what is drawn from.
        records: knows which samples are refused and when the budget is spent.
        admission: says when there is room for one more.
    """

    def __init__(self, samples: Samples, records: TrialRecords, admission: Admission) -> None:
        super().__init__(metric=records.settings.metric, mode=records.settings.mode)
        self._samples = samples
        self._records = records
        self._admission = admission
        self._open: dict[str, int] = {}
        self._waits: deque[dict[str, Any]] = deque()
        self.history = History()

    def set_search_properties(self, metric: str | None, mode: str | None, config: Any, **spec: Any) -> bool:
        return True  # it knows its space and its metric

    def go_on(self, events: Iterable[Event], going: Iterable[dict[str, Any]]) -> None:
        """Goes on with what an earlier searcher has drawn, and was told.

        Args:
            events: what has happened.
            going: configs of the trials that have not ended.
        """
        for kind, number, *more in events:
            if kind == DRAWN:
                self._samples.redraw(number, *more)
            elif kind == TOLD:
                self._samples.tell(number, *more)
        self._waits.extend(going)

    def suggest(self, trial_id: str) -> Any:
        if self._waits:
            config = self._waits.popleft()
            self._open[trial_id] = config[NUMBER]
            return config
        if self._admission.is_rebuilding:
            return None
        active = {trial.config[NUMBER] for trial in self._admission.trials(Trial.PENDING, Trial.RUNNING)}
        if self._records.is_enough or not self._records.lasts_for(active, new=1):
            # Tune keeps the actors of paused trials for others as long as the search goes on
            return Searcher.FINISHED if self._admission.is_idle else None
        if not self._admission.may_draw():
            return None
        sample = next_sample(_Noted(self._samples, self.history), self._records)
        if sample is None:
            self._records.is_exhausted = True
            return Searcher.FINISHED
        self._open[trial_id] = sample[NUMBER]
        return sample

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        pass

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        number = self._open.pop(trial_id, None)
        if number is not None:
            value = None if error else self._records.best_of(number)
            _Noted(self._samples, self.history).tell(number, value, failed=error)

    def save(self, checkpoint_path: str) -> None:
        """Tune asks for a file; nobody reads it."""
        Path(checkpoint_path).touch()

    def restore(self, checkpoint_path: str) -> None:
        raise NotImplementedError("a sweep goes on from its own record, not from Tune's")


class _Noted(Samples):
    """Samples of which each draw, and what came of it, is kept."""

    def __init__(self, samples: Samples, history: History) -> None:
        self._samples, self._history = samples, history

    def draw(self, number: int) -> dict[str, Any] | None:
        values = self._samples.draw(number)
        self._history.append([DRAWN, number, values])
        return values

    def tell(self, number: int, value: float | None, failed: bool = False) -> None:
        self._samples.tell(number, value, failed)
        self._history.append([TOLD, number, value, failed])

    def redraw(self, number: int, values: Mapping[str, Any] | None) -> None:
        self._samples.redraw(number, values)


def next_sample(samples: Samples, records: TrialRecords) -> dict[str, Any] | None:
    """The config of the next trial: its number and values that are not refused; None if there are no more.

    Raises:
        SchedulerError: if a hundred samples in a row are refused.
    """
    for _ in range(MOST_REFUSALS):
        number = records.next_number()
        values = samples.draw(number)
        if values is None:
            return None
        reason = records.check(values)
        if reason is None:
            return {NUMBER: number, VALUES: values}
        records.refused(number, values, reason)
        samples.tell(number, None, failed=True)
    raise SchedulerError(
        f"{MOST_REFUSALS} samples in a row do not make a study, the last because of this: {reason}"
    )
