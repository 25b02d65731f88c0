"""Methods on many tables: a row per table, and by Wilcoxon's test whether one method is better than another."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from cells import table
from scipy.stats import wilcoxon

MEASURES = {"test_loss": (1, "4f"), "test_accuracy": (-1, "3f")}
"""What is compared: the sign that makes less better, and how it is printed."""


def paired(records: Sequence[Mapping[str, Any]], methods: Sequence[str], ours: str) -> str:
    """Tables of test loss and accuracy, and the comparison of one method with each other one.

    A table counts where every method has all the seeds that any method has there; the others are named.

    Args:
        records: of cells with the coordinates ``table``, ``method`` and ``seed``.
        methods: in the order of the columns.
        ours: the one that is compared.
    """
    found: dict[str, dict[str, dict[int, Mapping[str, float]]]] = {}
    for record in records:
        cell = record["cell"]
        found.setdefault(cell["table"], {}).setdefault(cell["method"], {})[cell["seed"]] = record["result"]
    seeds = {
        name: set.intersection(*(set(of.get(method, {})) for method in methods)) for name, of in found.items()
    }
    whole = [name for name in found if seeds[name]]
    pieces = []
    for measure, (sign, form) in MEASURES.items():
        means = {
            name: [statistics.fmean(found[name][m][seed][measure] for seed in seeds[name]) for m in methods]
            for name in whole
        }
        rows = []
        for name, values in means.items():
            best = min(sign * value for value in values)
            cells = [f"**{value:.{form}}**" if sign * value == best else f"{value:.{form}}" for value in values]
            rows.append([name, len(seeds[name]), *cells])
        pieces.append(table([measure.replace("_", " "), "seeds", *methods], rows))
        at = methods.index(ours)
        rows = []
        for column, method in enumerate(methods):
            if method == ours or not means:
                continue
            pairs = [(sign * values[at], sign * values[column]) for values in means.values()]
            rows.append([method, *_compared(pairs)])
        columns = [
            f"{measure.replace('_', ' ')}: {ours} against",
            "better on",
            "worse on",
            "equal",
            "Wilcoxon's p",
        ]
        pieces.append(table(columns, rows))
    partial = [name for name in found if name not in whole]
    if partial:
        pieces.append(f"not yet whole for any seed: {', '.join(partial)}")
    return "\n\n".join(pieces)


def _compared(pairs: Sequence[tuple[float, float]]) -> list[str]:
    """Of (ours, theirs), less is better: tables won, lost and equal, and the two-sided p of the signed ranks."""
    won = sum(ours < theirs for ours, theirs in pairs)
    lost = sum(ours > theirs for ours, theirs in pairs)
    p = "-" if won + lost == 0 else f"{wilcoxon(*zip(*pairs, strict=True)).pvalue:.3g}"
    return [str(won), str(lost), str(len(pairs) - won - lost), p]
