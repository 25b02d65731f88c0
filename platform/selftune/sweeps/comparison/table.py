"""The tables of a comparison: what each method hands over, averaged over seeds, and how soon it had it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev

import numpy as np

from selftune.lower_level.better import mode_of
from selftune.sweeps.comparison.comparison import Cell, Comparison
from selftune.sweeps.comparison.outcome import Outcome
from selftune.sweeps.comparison.record import ComparisonRecord

SHARES = (0.25, 0.5, 1.0)
"""Of the budget, at which the best so far is told."""
WORST = 0.9
"""Share of the starts that do better than the worst decile."""
STEPS, SECONDS, BEST_AT = "steps", "seconds", "best at "
EQUAL_SECONDS = f"{BEST_AT}equal seconds"
_ORDER = ("validation_loss", "test_loss", "validation_accuracy", "test_accuracy")


@dataclass(frozen=True)
class Averaged:
    """A mean over seeds, with the standard deviation; ``mean`` is None where nothing is known."""

    mean: float | None
    spread: float | None = None

    @classmethod
    def of(cls, values: Sequence[float]) -> Averaged:
        """Of values, without those that are not known.

        >>> Averaged.of([1.0, 3.0]).mean
        2.0
        """
        known = [value for value in values if math.isfinite(value)]
        if not known:
            return cls(None)
        return cls(fmean(known), stdev(known) if len(known) > 1 else None)

    def written(self, digits: int = 4) -> str:
        """As tables have it.

        >>> Averaged(0.5, 0.01).written(), Averaged(None).written(), Averaged(24000).written(0)
        ('0.5000 ±0.0100', '-', '24,000')
        """
        if self.mean is None:
            return "-"
        mean = f"{self.mean:,.{digits}f}"
        return mean if self.spread is None or not digits else f"{mean} ±{self.spread:,.{digits}f}"


@dataclass(frozen=True)
class Row:
    """What a method came to, over the seeds that are there.

    Attributes:
        method: its name.
        seeds: how many have ended.
        columns: measures of what it hands over, the best so far at shares of the budget, and what it took.
    """

    method: str
    seeds: int
    columns: Mapping[str, Averaged]


@dataclass(frozen=True)
class StartsRow:
    """Test measures over random starts: the median and the worst decile of a method."""

    method: str
    starts: int
    columns: Mapping[str, tuple[float, float]]


def rows_of(comparison: Comparison, outcomes: Mapping[str, Outcome]) -> list[Row]:
    """A row per method, in the order of the comparison; those of which nothing has ended have no numbers."""
    rows = []
    cells = [cell for cell in comparison.cells if not cell.by_start and cell.name in outcomes]
    shortest = _shortest(cells, outcomes)
    for method in comparison.methods:
        own = [cell for cell in cells if cell.method == method]
        found = [outcomes[cell.name] for cell in own]
        columns = dict(_columns(comparison, found))
        if comparison.axis == "spent":
            at_equal = [outcomes[cell.name].best_at(shortest[cell.seed], "computed") for cell in own]
            columns[EQUAL_SECONDS] = Averaged.of([math.nan if value is None else value for value in at_equal])
        rows.append(Row(method.name, len(found), columns))
    return rows


def _shortest(cells: Sequence[Cell], outcomes: Mapping[str, Outcome]) -> dict[int, float]:
    """For each seed the seconds that every method has spent at least; baselines train one network only."""
    shortest: dict[int, float] = {}
    for cell in cells:
        seconds = math.inf if cell.method.kind == "baseline" else outcomes[cell.name].seconds
        shortest[cell.seed] = min(seconds, shortest.get(cell.seed, math.inf))
    return shortest


def _columns(comparison: Comparison, found: Sequence[Outcome]) -> Iterator[tuple[str, Averaged]]:
    for name in measures_in([outcome.measures for outcome in found]):
        yield name, Averaged.of([outcome.measures.get(name, math.nan) for outcome in found])
    budget = comparison.settings.steps or comparison.settings.seconds or 0.0
    for share in SHARES:
        values = [outcome.best_at(share * budget, comparison.axis) for outcome in found]
        known = [math.nan if value is None else value for value in values]
        yield f"{BEST_AT}{share:.0%}", Averaged.of(known)
    yield STEPS, Averaged.of([outcome.steps for outcome in found])
    yield SECONDS, Averaged.of([outcome.seconds for outcome in found])


def measures_in(found: Sequence[Mapping[str, float]]) -> list[str]:
    """Names of measures, the ones that everybody looks at first."""
    names = {name for measures in found for name in measures}
    return [*(name for name in _ORDER if name in names), *sorted(names - set(_ORDER))]


def starts_rows_of(comparison: Comparison, outcomes: Mapping[str, Outcome]) -> list[StartsRow]:
    """A row per method that was run from random starts, as far as it has ended."""
    rows = []
    for cell in comparison.cells:
        if not cell.by_start or cell.name not in outcomes:
            continue
        found = outcomes[cell.name].by_start
        names = [name for name in measures_in(found) if name.startswith("test_")]
        columns = {name: _median_and_worst(name, [one[name] for one in found]) for name in names}
        rows.append(StartsRow(cell.method.name, len(found), columns))
    return rows


def _median_and_worst(name: str, values: Sequence[float]) -> tuple[float, float]:
    known = np.array([value for value in values if math.isfinite(value)])
    if not known.size:
        return math.nan, math.nan
    worst = WORST if mode_of(name) == "min" else 1 - WORST
    return float(np.median(known)), float(np.quantile(known, worst))


def missing(comparison: Comparison, record: ComparisonRecord) -> list[str]:
    """The cells that have not ended, each with why where it is known."""
    lacking = [cell.name for cell in comparison.cells if cell.name not in record.outcomes]
    failures = record.failures
    return [f"{name}: failed: {failures[name]}" if name in failures else name for name in lacking]
