"""Grids: all combinations of a few values per key of a search space."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from selftune.errors import SettingError
from selftune.hyperparameters.distribution import Choices, Distribution, Integers
from selftune.search.space import SearchSpace

LARGEST = 100_000


def grid(space: SearchSpace, points: int) -> list[dict[str, Any]]:
    """All combinations of a grid, each once; a key whose condition does not hold is left out.

    Args:
        points: evenly spaced values per key, at least 1; of whole numbers as many as differ, of a choice all.

    Raises:
        SettingError: if there are more than 100,000.

    >>> from selftune.hyperparameters.distribution import Choices, LogUniform
    >>> from selftune.search import SearchSpace, Swept
    >>> grid(SearchSpace((Swept("a", Choices((True, False))), Swept("b", LogUniform(1, 4), {"a": (True,)}))), 2)
    [{'a': True, 'b': 1.0}, {'a': True, 'b': 4.0}, {'a': False}]
    """
    size, combinations = 1, [dict[str, Any]()]
    for swept in space:
        values = grid_values(swept.distribution, points)
        size = sum(len(values) if swept.applies(one) else 1 for one in combinations)
        if size > LARGEST:
            raise SettingError(
                "searcher", f"the grid has more than {LARGEST:,} combinations; give fewer points, or use random"
            )
        combinations = [
            extended
            for one in combinations
            for extended in (({**one, swept.key: value} for value in values) if swept.applies(one) else (one,))
        ]
    return combinations


def grid_values(distribution: Distribution, points: int) -> tuple[Any, ...]:
    """Evenly spaced values from a distribution's one end to the other; the middle if there is only one.

    >>> grid_values(Integers(1, 8), 3), grid_values(Integers(1, 2), 5)
    ((1, 4, 8), (1, 2))
    """
    if isinstance(distribution, Choices):
        return distribution.options
    fractions = tuple(_fractions(points))
    if isinstance(distribution, Integers):
        low, high = distribution.low, distribution.high
        return tuple(dict.fromkeys(round(low + fraction * (high - low)) for fraction in fractions))
    return tuple(distribution.quantile(fraction) for fraction in fractions)


def _fractions(points: int) -> Iterator[float]:
    if points == 1:
        yield 0.5
    else:
        yield from (index / (points - 1) for index in range(points))
