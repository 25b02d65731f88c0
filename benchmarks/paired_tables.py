"""Methods on many tables: a row per table, and by Wilcoxon's test whether one method is better than another."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from cells import table
from scipy.stats import rankdata, wilcoxon

MEASURES = {"test_loss": (1, "4f"), "test_accuracy": (-1, "3f")}
"""What is compared: the sign that makes less better, and how it is printed."""


def paired(records: Sequence[Mapping[str, Any]], methods: Sequence[str], ours: str) -> str:
    """Tables of test loss and accuracy, and the comparison of one method with each other one.

    A method has a column once it has a seed on every table where ``ours`` has one; others are named below. A row
    is the mean over the seeds that all columns have there.

    Args:
        records: of cells with the coordinates ``table``, ``method`` and ``seed``.
        methods: in the order of the columns.
        ours: the one that is compared.
    """
    found: dict[str, dict[str, dict[int, Mapping[str, float]]]] = {}
    for record in records:
        cell = record["cell"]
        found.setdefault(cell["table"], {}).setdefault(cell["method"], {})[cell["seed"]] = record["result"]
    rows = {name: of for name, of in found.items() if ours in of}
    columns = [m for m in methods if rows and all(of.get(m, {}).keys() & of[ours].keys() for of in rows.values())]
    seeds = {name: set.intersection(*(set(of[m]) for m in columns)) for name, of in rows.items()}
    rows = {name: of for name, of in rows.items() if seeds[name]}
    pieces = []
    for measure in MEASURES if rows else ():
        means = {
            name: [statistics.fmean(of[m][seed][measure] for seed in seeds[name]) for m in columns]
            for name, of in rows.items()
        }
        pieces += [_values(measure, columns, means, seeds), _comparison(measure, columns, means, ours)]
    missing = [m for m in methods if m not in columns]
    if missing:
        pieces.append(f"not yet on every table: {', '.join(missing)}")
    return "\n\n".join(pieces)


def _values(
    measure: str, methods: Sequence[str], means: Mapping[str, Sequence[float]], seeds: Mapping[str, set[int]]
) -> str:
    """A row per table, the best in bold, and the mean rank of every method."""
    sign, form = MEASURES[measure]
    rows = []
    for name, values in means.items():
        best = min(sign * value for value in values)
        cells = [f"**{value:.{form}}**" if sign * value == best else f"{value:.{form}}" for value in values]
        rows.append([name, len(seeds[name]), *cells])
    ranks = rankdata([[sign * value for value in values] for values in means.values()], axis=1).mean(axis=0)
    rows.append(["mean rank", "", *(f"{rank:.1f}" for rank in ranks)])
    return table([measure.replace("_", " "), "seeds", *methods], rows)


def _comparison(measure: str, methods: Sequence[str], means: Mapping[str, Sequence[float]], ours: str) -> str:
    """A row per other method: tables won, lost and equal, and the two-sided p of Wilcoxon's signed ranks."""
    sign, at = MEASURES[measure][0], methods.index(ours)
    rows = []
    for column, method in enumerate(methods):
        if method == ours:
            continue
        mine, theirs = ([sign * values[place] for values in means.values()] for place in (at, column))
        won = sum(a < b for a, b in zip(mine, theirs, strict=True))
        lost = sum(a > b for a, b in zip(mine, theirs, strict=True))
        p = f"{wilcoxon(mine, theirs).pvalue:.2g}" if won + lost else "-"
        rows.append([method, won, lost, len(means) - won - lost, p])
    return table([f"{measure.replace('_', ' ')}: {ours} against", "better on", "worse on", "equal", "p"], rows)
