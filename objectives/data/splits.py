"""Which examples of a file are for training, for validation and for the test."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from numbers import Real

import torch

from selftune.data import SPLITS
from selftune.errors import SettingError, suggestion
from selftune.shapes import Int, Tensor

FRACTIONS = {"validation": 0.2, "test": 0.2}
"""How much of a data set without splits is held out."""

Splits = dict[str, Int[Tensor, "examples"]]
"""Positions of examples, ascending, by the name of the split."""

_NAMES = {
    **{name: "train" for name in ("train", "training")},
    **{name: "validation" for name in ("validation", "valid", "val", "dev")},
    **{name: "test" for name in ("test", "testing")},
}


def split_called(name: str) -> str | None:
    """The split that files and folders call so; None if it is no name of a split.

    >>> split_called("Val"), split_called("cats")
    ('validation', None)
    """
    return _NAMES.get(name.casefold())


def checked_fractions(split: Mapping[str, float] | None) -> dict[str, float]:
    """Fractions of the examples for validation and test; what is left out is as in ``FRACTIONS``.

    Raises:
        SettingError: under the key ``split``, if a fraction is not in (0, 1), or nothing is left for training.

    >>> checked_fractions({"validation": 0.1})
    {'validation': 0.1, 'test': 0.2}
    """
    given = {} if split is None else split
    if not isinstance(given, Mapping):
        raise SettingError("split", f"must be fractions such as {{validation: 0.2, test: 0.2}}, got {split!r}")
    for name, fraction in given.items():
        if name not in FRACTIONS:
            raise SettingError("split", f"unknown split {name!r}; {suggestion(str(name), FRACTIONS)}")
        if isinstance(fraction, bool) or not isinstance(fraction, Real) or not 0 < fraction < 1:
            raise SettingError("split", f"the fraction for {name} must be in (0, 1), got {fraction!r}")
    fractions = {name: float(given.get(name, FRACTIONS[name])) for name in FRACTIONS}
    if sum(fractions.values()) >= 1:
        raise SettingError("split", f"{fractions} leave nothing for training; give less")
    return fractions


def named_splits(names: Sequence[str | None], where: str) -> Splits:
    """Positions by split, of the names that a column holds.

    Raises:
        SettingError: under the key ``path``, if one is no split.

    >>> named_splits(["train", "test", "train"], "a.csv")["train"]
    tensor([0, 2])
    """
    found: dict[str, list[int]] = {}
    for row, name in enumerate(names):
        split = split_called(name) if isinstance(name, str) else None
        if split is None:
            raise SettingError(
                "path", f"{where}, row {row}: the column split holds {name!r}; write train, validation or test"
            )
        found.setdefault(split, []).append(row)
    return {split: torch.tensor(found[split]) for split in SPLITS if split in found}


def completed(
    given: Mapping[str, Int[Tensor, "examples"]],
    examples: int,
    split: Mapping[str, float] | None = None,
    seed: int = 0,
    labels: Int[Tensor, "examples"] | None = None,
) -> Splits:
    """All three splits: those that a data set has, and those that it lacks, drawn from its training split.

    Args:
        given: positions by split; empty where the data set has no splits.
        examples: how many there are.
        split: fractions, of the training split, for validation and test where they are drawn.
        seed: decides which examples are drawn.
        labels: classes of all examples by number: each class then has its share of every split, up to
            rounding, and at least one example is left for training.

    Raises:
        SettingError: under the key ``split``, if a split would be empty, or there is no training split.

    >>> [len(positions) for positions in completed({}, 10).values()]
    [6, 2, 2]
    """
    fractions = checked_fractions(split)
    if given and "train" not in given:
        raise SettingError("split", f"the data have {' and '.join(given)} examples but no training ones; add some")
    pool = given["train"] if given else torch.arange(examples)
    check_not_given(split, given)
    missing = {name: fraction for name, fraction in fractions.items() if name not in given}
    drawn = _drawn(pool, missing, seed, labels) if missing else {"train": pool}
    return _whole({**given, **drawn}, examples)


def consecutive(examples: int, split: Mapping[str, float] | None = None) -> Splits:
    """Three splits of a stream, one after the other: what is predicted lies after what was learned from.

    Raises:
        SettingError: under the key ``split``, if a split would be empty.

    >>> consecutive(10)["test"]
    tensor([8, 9])
    """
    fractions = checked_fractions(split)
    counts = [round(fractions[name] * examples) for name in FRACTIONS]
    sizes = [examples - sum(counts), *counts]
    if min(sizes) < 0:
        sizes = [0, 0, examples]
    return _whole(dict(zip(SPLITS, torch.split(torch.arange(examples), sizes), strict=True)), examples)


def check_not_given(split: Mapping[str, float] | None, given: Iterable[str]) -> None:
    """Refuses a fraction for a split that the data have: it would do nothing.

    Raises:
        SettingError: under the key ``split``.
    """
    for name in split or ():
        if name in given:
            raise SettingError("split", f"the data have a {name} split of their own; leave its fraction out")


def _whole(splits: Mapping[str, Tensor], examples: int) -> Splits:
    for name in SPLITS:
        if not len(splits[name]):
            raise SettingError(
                "split", f"{examples} examples are too few: the {name} split would be empty; bring more"
            )
    return {name: splits[name] for name in SPLITS}


def _drawn(pool: Tensor, fractions: Mapping[str, float], seed: int, labels: Tensor | None) -> Splits:
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(len(pool), generator=generator)
    if labels is not None:
        order = order[_classes_in_turn(labels[pool[order]], generator)]
    counts = [round(fraction * len(pool)) for fraction in fractions.values()]
    parts = torch.split(order, [*counts, len(pool) - sum(counts)])
    return {name: pool[part].sort().values for name, part in zip((*fractions, "train"), parts, strict=True)}


def _classes_in_turn(labels: Tensor, generator: torch.Generator) -> Tensor:
    """An order in which every stretch holds each class as often as its share says, up to one."""
    by_class = labels.argsort(stable=True)
    which, counts = labels[by_class], torch.bincount(labels)
    rank = torch.arange(len(labels)) - (counts.cumsum(0) - counts)[which]
    offset = torch.rand(len(counts), generator=generator, dtype=torch.float64)
    place = (rank + offset[which]) / counts[which]
    place[rank == counts[which] - 1] = 2.0  # the last of every class comes last, for training
    return by_class[place.argsort(stable=True)]
