"""The trials of a search as they are read: the last of each, their curves, the best so far, the winner."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from selftune.search import SearchSettings, SearchSpace, TrialRecord
from selftune.shapes import Float, Int


@dataclass(frozen=True)
class Curve:
    """What a trial reported, in order.

    Attributes:
        training_step, spent, time: as in ``TrialRecord``.
        measures: by name; NaN where a report lacks one.
        copied: indices of the reports that go on from another trial's state.
    """

    training_step: Int[np.ndarray, "reports"]
    spent: Int[np.ndarray, "reports"]
    time: Float[np.ndarray, "reports"]
    measures: dict[str, Float[np.ndarray, "reports"]]
    copied: tuple[int, ...] = ()


@dataclass(frozen=True)
class BestSoFar:
    """The best value of the metric that any trial had met, at each of the moments when it became better.

    Attributes:
        spent: training steps of all networks of all trials together.
        time: seconds since the search began.
        value: of the metric.
        number: of the trial.
    """

    spent: Int[np.ndarray, "moments"]
    time: Float[np.ndarray, "moments"]
    value: Float[np.ndarray, "moments"]
    number: Int[np.ndarray, "moments"]


@dataclass(frozen=True)
class Trials:
    """What is known of the trials of a search; ``records`` in the order in which they were heard.

    >>> from selftune.search import Swept
    >>> from selftune.hyperparameters.distribution import Uniform
    >>> space = SearchSpace((Swept("regularizers.dropout.rate", Uniform(0, 1)),))
    >>> settings = SearchSettings(metric="validation_loss", mode="min", report_every=10, trials=2)
    >>> key, loss = "regularizers.dropout.rate", "validation_loss"
    >>> trials = Trials(space, settings, (
    ...     TrialRecord(0, {key: 0.1}, "finished", 10, 10, measures={loss: 0.5}, best=0.5, best_step=10),
    ...     TrialRecord(1, {key: 0.2}, "finished", 10, 10, measures={loss: 0.4}, best=0.4, best_step=10),
    ... ))
    >>> trials.winner.number, trials.best_so_far().spent.tolist(), trials.spent
    (1, [10, 20], 20)
    """

    space: SearchSpace
    settings: SearchSettings
    records: tuple[TrialRecord, ...]

    @cached_property
    def last(self) -> dict[int, TrialRecord]:
        """How each trial stands, by number, in the order of drawing."""
        return dict(sorted({record.number: record for record in self.records}.items()))

    @cached_property
    def curves(self) -> dict[int, Curve]:
        """What each trial reported, by number; those that reported nothing are left out."""
        reports: dict[int, list[TrialRecord]] = {number: [] for number in self.last}
        for record in self.records:
            own = reports[record.number]
            is_new = not own or (record.spent, record.copied) != (own[-1].spent, own[-1].copied)
            if record.measures and is_new:  # a pause and an end repeat the report before
                own.append(record)
        return {number: _curve(own) for number, own in reports.items() if own}

    @property
    def counts(self) -> dict[str, int]:
        """How many trials stand how, by status; those without are left out."""
        found = [record.status for record in self.last.values()]
        return {status: found.count(status) for status in dict.fromkeys(found)}

    @property
    def spent(self) -> int:
        """Training steps of all networks of all trials together."""
        return sum(record.spent for record in self.last.values())

    @cached_property
    def winner(self) -> TrialRecord | None:
        """The report in which the best value of the metric was met; None as long as there is none.

        Trials that failed are left out: what they leave behind need not be whole. Of equal trials the one that
        met the value first counts, as where one went on from another's copy.
        """
        whole = [one for one in self.at_best.values() if self.last[one.number].status != "failed"]
        best = min((self._order(one.best) for one in whole), default=None)
        equal = {id(one) for one in whole if self._order(one.best) == best}
        return next((one for one in self.records if id(one) in equal), None)

    @cached_property
    def at_best(self) -> dict[int, TrialRecord]:
        """The report of each trial in which it met its best value, by number; those without a value are left out.

        Its values are those the trial was trained with then: population-based training changes them later.
        """
        found: dict[int, TrialRecord] = {}
        for record in self.records:
            best = self.last[record.number].best
            if _is_number(best) and record.best == best:
                found.setdefault(record.number, record)
        return dict(sorted(found.items()))

    def ranked(self) -> list[TrialRecord]:
        """The trials as they stand, the best first, those without a value last."""
        return sorted(
            self.last.values(),
            key=lambda one: (not _is_number(one.best), self._order(one.best) if _is_number(one.best) else 0.0),
        )

    def best_so_far(self) -> BestSoFar:
        """The best value against what was spent until then; trials that failed are left out, as in ``winner``."""
        moments = list(self._moments())
        spent, time, value, number = zip(*moments, strict=True) if moments else ((), (), (), ())
        return BestSoFar(
            np.array(spent, dtype=np.int64),
            np.array(time, dtype=np.float64),
            np.array(value, dtype=np.float64),
            np.array(number, dtype=np.int64),
        )

    def _moments(self) -> Iterator[tuple[int, float, float, int]]:
        spent: dict[int, int] = {}
        total, best = 0, math.inf
        for record in self.records:
            total += record.spent - spent.get(record.number, 0)
            spent[record.number] = record.spent
            if self.last[record.number].status == "failed" or not _is_number(record.best):
                continue
            if self._order(record.best) < best:
                best = self._order(record.best)
                yield total, record.time, float(record.best or 0.0), record.number

    def _order(self, value: float | None) -> float:
        """Smaller is better."""
        assert value is not None
        return value if self.settings.mode == "min" else -value


def _is_number(value: float | None) -> bool:
    return value is not None and math.isfinite(value)


def _curve(reports: list[TrialRecord]) -> Curve:
    names = dict.fromkeys(name for report in reports for name in report.measures)
    return Curve(
        np.array([report.training_step for report in reports], dtype=np.int64),
        np.array([report.spent for report in reports], dtype=np.int64),
        np.array([report.time for report in reports], dtype=np.float64),
        {
            name: np.array([report.measures.get(name, math.nan) for report in reports], dtype=np.float64)
            for name in names
        },
        tuple(index for index, report in enumerate(reports) if report.copied is not None),
    )
