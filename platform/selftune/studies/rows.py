"""Rows and cells of tables: which hyperparameters have a row, how a measure with its spread is written."""

from __future__ import annotations

from collections.abc import Sequence

MAXIMUM_ROWS = 20


def grouped(names: Sequence[str]) -> dict[str, list[int]]:
    """The rows of a table of hyperparameters: columns by label, parts of a name together where many.

    >>> grouped(["mixup.alpha", "dropout.rate[input]"])
    {'mixup.alpha': [0], 'dropout.rate[input]': [1]}
    >>> grouped([f"dropout.rate[{part}]" for part in range(30)]).keys()
    dict_keys(['dropout.rate (mean of 30)'])
    """
    if len(names) <= MAXIMUM_ROWS:
        return {name: [index] for index, name in enumerate(names)}
    groups: dict[str, list[int]] = {}
    for index, name in enumerate(names):
        groups.setdefault(name.partition("[")[0], []).append(index)
    return {name if len(index) == 1 else f"{name} (mean of {len(index)})": index for name, index in groups.items()}


def with_spread(value: float, spread: float | None) -> str:
    """A measure with its standard deviation, where there is one.

    >>> with_spread(0.12345, None), with_spread(0.12345, 0.00321)
    ('0.1235', '0.1235 ± 0.0032')
    """
    return f"{value:.4g}" if spread is None else f"{value:.4g} ± {spread:.2g}"
