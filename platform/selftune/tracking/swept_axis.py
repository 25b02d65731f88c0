"""An axis for the values of a swept key: where each value lies between 0 and 1, and what is written beside it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib.ticker import MaxNLocator

from selftune.hyperparameters.distribution import Choices, Integers, LogUniform
from selftune.search import Swept
from selftune.tracking.drawing import logarithmic
from selftune.tracking.swept_values import value_text

GAP = -0.14
"""Where a value lies that is not there: a key may be there under some values of others only."""

_LOGARITHMIC_FROM = 5.0  # ratio of the largest to the smallest value of a metric


@dataclass(frozen=True)
class SweptAxis:
    """Places of values, and ticks: pairs of a place and a text.

    >>> from selftune.hyperparameters.distribution import LogUniform
    >>> axis = axis_of(Swept("objective.optimization.learning_rate", LogUniform(1e-3, 1e-1)), [0.01])
    >>> round(axis.place(0.01), 6), [text for _, text in axis.ticks]
    (0.5, ['0.001', '0.01', '0.1'])
    """

    position: Callable[[Any], float]
    ticks: tuple[tuple[float, str], ...]
    has_gap: bool = False

    def place(self, value: Any) -> float:
        """Where a value lies; ``GAP`` for None."""
        return GAP if value is None else self.position(value)

    def spaced(self, number: int) -> list[tuple[float, str]]:
        """At most so many of the ticks, evenly chosen, the gap's left out."""
        ticks = [tick for tick in self.ticks if tick[0] != GAP]
        step = math.ceil(len(ticks) / number)
        return ticks[::step]


def axis_of(swept: Swept, values: Sequence[Any]) -> SweptAxis:
    """The axis of a swept key: logarithmic where it is drawn so, of categories where it is a choice.

    Args:
        values: that are drawn on it, None where the key is not there.
    """
    distribution = swept.distribution
    has_gap = any(value is None for value in values)
    if isinstance(distribution, Choices):
        options = list(distribution.options)
        last = max(len(options) - 1, 1)
        ticks = [(index / last, value_text(option)) for index, option in enumerate(options)]
        return _with_gap(lambda value: options.index(value) / last, ticks, has_gap)
    known = [value for value in values if value is not None]
    # population-based training may leave the range
    low, high = min(distribution.quantile(0.0), *known), max(distribution.quantile(1.0), *known)
    if isinstance(distribution, LogUniform):
        return _numbers(low, high, True, has_gap)
    return _numbers(low, high, False, has_gap, whole=isinstance(distribution, Integers))


def metric_axis(values: Sequence[float]) -> SweptAxis:
    """The axis of a metric, logarithmic where values are positive and far apart."""
    low, high = min(values), max(values)
    if low == high:
        low, high = low - 0.5 * abs(low) - 1e-12, high + 0.5 * abs(high) + 1e-12
    return _numbers(low, high, low > 0 and high / low >= _LOGARITHMIC_FROM, False)


def _numbers(low: float, high: float, is_logarithmic: bool, has_gap: bool, whole: bool = False) -> SweptAxis:
    if is_logarithmic:
        begin, length = math.log(low), math.log(high / low)
        ticks = [((math.log(value) - begin) / length, logarithmic(value)) for value in _decades(low, high)]
        return _with_gap(lambda value: (math.log(value) - begin) / length, ticks, has_gap)
    length = high - low
    found = MaxNLocator(4, integer=whole, steps=[1, 2, 2.5, 5, 10]).tick_values(low, high)
    inside = [value for value in found if low - 1e-9 * length <= value <= high + 1e-9 * length]
    ticks = [((value - low) / length, f"{value:.5g}".replace("-", "\N{MINUS SIGN}")) for value in inside]
    return _with_gap(lambda value: (value - low) / length, ticks, has_gap)


def _decades(low: float, high: float) -> Iterator[float]:
    """Powers of ten within the range, at most five; where there is hardly one, twice and five times it, too."""
    first, last = math.ceil(math.log10(low) - 1e-9), math.floor(math.log10(high) + 1e-9)
    if last - first >= 1:
        step = math.ceil((last - first + 1) / 5)
        yield from (10.0**exponent for exponent in range(first, last + 1, step))
        return
    for exponent in range(first - 1, last + 2):
        yield from (f * 10.0**exponent for f in (1, 2, 5) if low <= f * 10.0**exponent <= high)


def _with_gap(position: Callable[[Any], float], ticks: Sequence[tuple[float, str]], has_gap: bool) -> SweptAxis:
    return SweptAxis(position, (*(((GAP, "not there"),) if has_gap else ()), *ticks), has_gap)
