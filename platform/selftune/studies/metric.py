"""The metric of a study: its best and its last value over the hyper-steps."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from selftune.shapes import Float, Int
from selftune.tracking.summary import MetricSummary
from selftune.tracking.trajectory import Trajectory, read_trajectory


def metric_of(name: str, mode: str, folder: Path, tuned: Mapping[str, float]) -> MetricSummary | None:
    """The best and the last value of a metric; None where nobody knows one.

    Args:
        mode: ``min`` or ``max``, what is better.
        tuned: measures of the networks at the end. What they hold of the metric is its last value, and comes after
            those that were taken, perhaps on fewer examples, at the hyper-steps.
    """
    steps, values = _history(name, read_trajectory(folder))
    if name in tuned and len(trajectory := read_trajectory(folder)):
        steps = np.append(steps, trajectory.hyper_step[-1])
        values = np.append(values, tuned[name])
    if not len(values):
        return None
    best = int(values.argmin() if mode == "min" else values.argmax())
    return MetricSummary(
        name=name,
        mode=mode,
        best=float(values[best]),
        hyper_step=int(steps[best]),
        last=float(values[-1]),
    )


def _history(metric: str, trajectory: Trajectory) -> tuple[Int[np.ndarray, "n"], Float[np.ndarray, "n"]]:
    values = values_of(metric, trajectory)
    there = np.isfinite(values)
    return trajectory.hyper_step[there], values[there]


def values_of(metric: str, trajectory: Trajectory) -> Float[np.ndarray, "rows"]:
    """The metric at every hyper-step; nan where it was not taken."""
    if metric == "validation_loss":
        return trajectory.validation_loss
    if metric in trajectory.diagnostics:
        return trajectory.diagnostics[metric]
    return np.full(len(trajectory), np.nan)
