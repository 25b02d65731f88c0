"""Tables of hypergradients against metagradients: cosines and signs, with confidence intervals over seeds."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from cells import table

Record = Mapping[str, Any]
DRAWS = 10_000
"""Samples of the bootstrap."""


def cosine(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Of vectors along the last axis.

    >>> float(cosine(np.array([1.0, 0.0]), np.array([1.0, 1.0])).round(3))
    0.707
    """
    lengths = np.linalg.norm(first, axis=-1) * np.linalg.norm(second, axis=-1)
    return (first * second).sum(-1) / np.where(lengths > 0, lengths, 1)


def interval(values: Sequence[float]) -> tuple[float, float]:
    """The 95 % interval of the mean by the percentile bootstrap, with a seed of its own.

    >>> interval([1.0, 1.0, 1.0])
    (1.0, 1.0)
    """
    drawn = np.random.default_rng(0).choice(np.asarray(values), (DRAWS, len(values))).mean(axis=1)
    low, high = np.percentile(drawn, [2.5, 97.5])
    return float(low), float(high)


def shown(values: Sequence[float]) -> str:
    """A mean with its interval, which one seed does not have.

    >>> shown([0.5]), shown([0.5, 0.5])
    ('0.500', '0.500 (0.500 to 0.500)')
    """
    if len(values) == 1:
        return f"{values[0]:.3f}"
    low, high = interval(values)
    return f"{np.mean(values):.3f} ({low:.3f} to {high:.3f})"


def against(truth: Record, found: Record) -> dict[str, float]:
    """What a method's record says beside the metagradients of the same network and seed.

    Returns:
        Cosines of the mean estimate with the metagradient of every horizon, by the horizon; and with that of the
        longest one: ``signs``, the share of hyperparameters whose sign agrees, and ``one``, the mean cosine of a
        single estimate.
    """
    names = truth["result"]["names"]
    columns = [names.index(name) for name in found["result"]["names"]]
    estimates = np.asarray(found["result"]["estimates"])
    mean = estimates.mean(0)
    by_horizon = {
        horizon: np.asarray(runs).mean(0)[columns] for horizon, runs in truth["result"]["metagradients"].items()
    }
    longest = list(by_horizon.values())[-1]
    return {
        **{horizon: float(cosine(mean, exact)) for horizon, exact in by_horizon.items()},
        "signs": float((np.sign(mean) == np.sign(longest)).mean()),
        "one": float(cosine(estimates, longest[None]).mean()),
    }


def report(records: Iterable[Record], metagradient: str) -> str:
    """The tables: metagradients by themselves, then every method beside them.

    Args:
        records: of cells with ``method``, ``network`` and ``seed``.
        metagradient: the method whose records are metagradients.
    """
    truths: dict[str, dict[int, Record]] = {}
    found: dict[tuple[str, str], dict[int, Record]] = {}
    for record in records:
        cell = record["cell"]
        if cell["method"] == metagradient:
            truths.setdefault(cell["network"], {})[cell["seed"]] = record
        else:
            found.setdefault((cell["method"], cell["network"]), {})[cell["seed"]] = record
    if not truths:
        return "no metagradient is there yet"
    horizons = list(next(iter(next(iter(truths.values())).values()))["result"]["metagradients"])
    first = [[network, len(seeds), *_of_horizons(list(seeds.values()))] for network, seeds in truths.items()]
    pieces = [table(["network", "seeds", *(f"{h} steps" for h in horizons[:-1]), "two runs apart"], first)]
    rows = []
    for (method, network), seeds in found.items():
        both = [against(truths[network][seed], seeds[seed]) for seed in seeds if seed in truths.get(network, {})]
        if both:
            middle = (f"{np.mean([one[h] for one in both]):.3f}" for h in horizons[:-1])
            last = shown([one[horizons[-1]] for one in both])
            rest = (f"{np.mean([one[key] for one in both]):.2f}" for key in ("signs", "one"))
            rows.append([method, network, len(both), *middle, last, *rest])
    columns = ["method", "network", "seeds", *(f"{h} steps" for h in horizons), "signs", "one estimate"]
    return "\n\n".join([*pieces, table(columns, rows)])


def _of_horizons(records: Sequence[Record]) -> list[str]:
    """Cosines of the shorter horizons with the longest, and of two halves of the runs over the longest."""
    found: dict[str, list[float]] = {}
    for record in records:
        runs = {horizon: np.asarray(all_) for horizon, all_ in record["result"]["metagradients"].items()}
        *shorter, longest = runs
        for horizon in shorter:
            found.setdefault(horizon, []).append(float(cosine(runs[horizon].mean(0), runs[longest].mean(0))))
        halves = np.array_split(runs[longest], 2)
        found.setdefault("halves", []).append(float(cosine(*(half.mean(0) for half in halves))))
    return [shown(values) for values in found.values()]
