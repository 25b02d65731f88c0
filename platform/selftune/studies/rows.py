"""Which rows a table of hyperparameters has: one each, or one for all parts of a name where there are many."""

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
