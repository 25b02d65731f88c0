"""Trajectories and reports as metric points: named numbers at a training step, under keys a tracker takes."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from selftune.shapes import Float, Int
from selftune.tracking.trajectory import Trajectory

MAXIMUM_NAMES = 50  # hyperparameters with metrics of their own; beyond, one summary per group

_QUANTITIES = ("value", "scale", "hypergradient")


class Point(NamedTuple):
    key: str
    value: float
    seconds: float  # since the start of the study: the same at every sync, so that a tracker sees repetitions
    step: int


@dataclass(frozen=True)
class Row:
    """The points of one row, and the number (hyper-step or order) by which it is known to have been sent."""

    number: int
    points: list[Point]

    @classmethod
    def of(cls, number: int, numbers: Mapping[str, float], seconds: float, step: int) -> Row:
        """All the numbers at one moment."""
        keys = keys_of(list(numbers))
        values = zip(keys, numbers.values(), strict=True)
        return cls(number, [Point(key, float(value), float(seconds), int(step)) for key, value in values])


def keys_of(names: Sequence[str]) -> list[str]:
    """Names as trackers allow them (letters, digits, ``_-./: ``), distinct where the names are.

    >>> keys_of(["weight_decay.strength[layers.0]", "a<b", "a>b"])
    ['weight_decay.strength/layers.0', 'a_b', 'a_b 2']
    """
    keys: list[str] = []
    taken: set[str] = set()
    for name in names:
        parts = re.sub(r"[^\w/.\- :]", "_", re.sub(r"\[(.*)\]$", r"/\1", name)).split("/")
        key = "/".join(part if part.strip(". ") else f"_{part.strip()}" for part in parts if part) or "_"
        key, number = key[-180:].lstrip("/"), 2
        while (unique := key if number == 2 and key not in taken else f"{key} {number}") in taken:
            number += 1
        taken.add(unique)
        keys.append(unique)
    return keys


def groups_of(names: Sequence[str]) -> dict[str, list[int]]:
    """Columns of the hyperparameters that share a name without its ``[part]``, in order of appearance.

    >>> groups_of(["dropout.rate[input]", "dropout.rate[hidden]", "mixup.alpha"])
    {'dropout.rate': [0, 1], 'mixup.alpha': [2]}
    """
    groups: dict[str, list[int]] = {}
    for index, name in enumerate(names):
        groups.setdefault(re.sub(r"\[.*\]$", "", name), []).append(index)
    return groups


def trajectory_rows(trajectory: Trajectory, after: int) -> Iterator[Row]:
    """The hyper-steps that follow hyper-step number ``after``.

    Of at most 50 hyperparameters every value, scale and hypergradient becomes a metric; of more, the minimum,
    mean and maximum of each group of names does. The hypergradient's norm and the certificate always do. Where
    there is a certificate, it holds the step size that takes the place of the scales.
    """
    new = np.flatnonzero(trajectory.hyper_step > after)
    names, columns = _columns(trajectory, new)
    for row, numbers in zip(new, columns, strict=True):
        at = float(trajectory.seconds[row]), int(trajectory.training_step[row])
        yield Row.of(int(trajectory.hyper_step[row]), dict(zip(names, numbers, strict=True)), *at)


@dataclass
class Elapsed:
    """How far a trainer is, by the reports that were read of it: seconds of its own time, and training steps."""

    seconds: float = 0.0
    step: int = 0


def trainer_rows(reports: pa.Table, elapsed: Elapsed, after: int) -> Iterator[Row]:
    """Of one trainer's next reports those that follow order number ``after``: every metric it reported."""
    known = ("trainer", "order", "kind", "training_step", "message")
    for report in reports.to_pylist():
        elapsed.seconds += report.get("seconds") or 0.0
        elapsed.step = elapsed.step if report["training_step"] is None else report["training_step"]
        if report["order"] > after:
            numbers = {name: value for name, value in report.items() if name not in known and value is not None}
            yield Row.of(report["order"], numbers, elapsed.seconds, elapsed.step)


def flattened(settings: Any, prefix: str = "") -> dict[str, str]:
    """Nested settings as dotted keys and text.

    >>> flattened({"method": {"name": "self_tuning", "steps": [2, 1]}})
    {'method.name': 'self_tuning', 'method.steps.0': '2', 'method.steps.1': '1'}
    """
    if isinstance(settings, Mapping) and settings:
        items: list[tuple[Any, Any]] = list(settings.items())
    elif isinstance(settings, list) and settings:
        items = list(enumerate(settings))
    else:
        return {prefix: str(settings)}
    flat: dict[str, str] = {}
    for key, value in items:
        flat |= flattened(value, f"{prefix}.{key}" if prefix else str(key))
    return flat


def _columns(
    trajectory: Trajectory, rows: Int[np.ndarray, "rows"]
) -> tuple[list[str], Float[np.ndarray, "rows columns"]]:
    names = ["training_loss", "validation_loss", "hypergradient_norm"]
    columns = [
        trajectory.training_loss[rows],
        trajectory.validation_loss[rows],
        np.linalg.norm(trajectory.hypergradients[rows], axis=1),
    ]
    few = len(trajectory.names) <= MAXIMUM_NAMES
    groups = groups_of(trajectory.names)
    if len(groups) > MAXIMUM_NAMES:
        groups = {"all": list(range(len(trajectory.names)))}
    for prefix, known in (("certificate", trajectory.certificate), ("diagnostic", trajectory.diagnostics)):
        names += [f"{prefix}/{name}" for name in known]
        columns += [column[rows] for column in known.values()]
    matrices = (trajectory.values, trajectory.scales, trajectory.hypergradients)
    for quantity, matrix in zip(_QUANTITIES, matrices, strict=True):
        if quantity == "scale" and trajectory.certificate:
            continue
        if few:
            names += [f"{quantity}/{name}" for name in trajectory.names]
            columns += list(matrix[rows].T)
            continue
        for group, index in groups.items():
            members = matrix[rows][:, index]
            names += [f"{quantity}/{group}/{word}" for word in ("min", "mean", "max")]
            columns += [members.min(axis=1), members.mean(axis=1), members.max(axis=1)]
    return names, np.stack(columns, axis=1)
