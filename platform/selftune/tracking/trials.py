"""The trials of a search as they are read: the last of each, their curves, the best so far, the winner."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
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
    """Values of the metric, and the moments when they were met; of the best so far those when it became better.

    Attributes:
        spent: training steps of all networks of all trials together.
        seconds: that the trainers of all trials computed together.
        time: seconds since the search began.
        value: of the metric.
        number: of the trial.
    """

    spent: Int[np.ndarray, "moments"]
    seconds: Float[np.ndarray, "moments"]
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
        spent: dict[int, int] = {}
        for record in self.records:
            own = reports[record.number]
            if record.spent <= spent.get(record.number, 0):
                continue  # a start, a pause and an end say again what the report before them said
            spent[record.number] = record.spent
            if record.copied is None:  # done again from a checkpoint after a fault: what was beyond it is void
                own[:] = [one for one in own if one.training_step < record.training_step]
            if record.measures:
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
        whole = {
            number: (self._order(one.best), index)
            for number, (index, one) in self._met.items()
            if self.last[number].status != "failed"
        }
        return self._met[min(whole, key=whole.__getitem__)][1] if whole else None

    @property
    def at_best(self) -> dict[int, TrialRecord]:
        """The report of each trial in which it met its best value, by number; those without a value are left out.

        Its values and measures are those of then: population-based training changes them later. What a trial
        copied was met with the values of the other.
        """
        return {number: record for number, (_, record) in sorted(self._met.items())}

    @cached_property
    def _met(self) -> dict[int, tuple[int, TrialRecord]]:
        """For each trial the index of the record in which it met its best value, and what was in force then."""
        met: dict[int, tuple[int, TrialRecord]] = {}
        for index, record in enumerate(self.records):
            known = met.get(record.number)
            if not _is_number(record.best) or (known is not None and known[1].best == record.best):
                continue
            donor = None if record.copied is None else met.get(record.copied)
            if donor is not None and donor[1].best == record.best:
                record = replace(record, values=donor[1].values, measures=donor[1].measures)
            met[record.number] = index, record
        return met

    def ranked(self) -> list[TrialRecord]:
        """The trials as they stand, the best first, those without a value last."""
        return sorted(
            self.last.values(),
            key=lambda one: (not _is_number(one.best), self._order(one.best) if _is_number(one.best) else 0.0),
        )

    def best_so_far(self) -> BestSoFar:
        """The best value against what was spent until then; trials that failed are left out, as in ``winner``."""
        return _arrays(list(self._moments()))

    def best_of_each(self) -> BestSoFar:
        """The best value of each trial, at the moments when they were met."""
        found = [
            (*self._totals[index], self.records[index].time, float(record.best or 0.0), record.number)
            for index, record in sorted(self._met.values(), key=lambda one: one[0])
        ]
        return _arrays(found)

    @cached_property
    def _totals(self) -> list[tuple[int, float]]:
        """What all trials together have cost by the time of each record: training steps and seconds."""
        last: dict[int, TrialRecord] = {}
        totals, spent, seconds = [], 0, 0.0
        for record in self.records:
            before = last.get(record.number)
            spent += record.spent - (before.spent if before else 0)
            seconds += record.seconds - (before.seconds if before else 0.0)
            last[record.number] = record
            totals.append((spent, seconds))
        return totals

    def _moments(self) -> Iterator[_Moment]:
        best = math.inf
        for record, total in zip(self.records, self._totals, strict=True):
            if self.last[record.number].status == "failed" or not _is_number(record.best):
                continue
            if self._order(record.best) < best:
                best = self._order(record.best)
                yield *total, record.time, float(record.best or 0.0), record.number

    def _order(self, value: float | None) -> float:
        """Smaller is better."""
        assert value is not None
        return value if self.settings.mode == "min" else -value


_Moment = tuple[int, float, float, float, int]
"""As in ``BestSoFar``: spent, seconds, time, value, number."""


def _is_number(value: float | None) -> bool:
    return value is not None and math.isfinite(value)


def _arrays(moments: list[_Moment]) -> BestSoFar:
    spent, seconds, time, value, number = zip(*moments, strict=True) if moments else ((), (), (), (), ())
    return BestSoFar(
        np.array(spent, dtype=np.int64),
        np.array(seconds, dtype=np.float64),
        np.array(time, dtype=np.float64),
        np.array(value, dtype=np.float64),
        np.array(number, dtype=np.int64),
    )


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
