"""The metric of a study: what it did over the hyper-steps, and which of several studies it prefers."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from selftune.shapes import Float, Int
from selftune.studies.mistakes import Mistakes, UserError
from selftune.studies.yaml_file import parse_yaml, read_text
from selftune.tracking.summary import MetricSummary, Summary, read_summary
from selftune.tracking.trajectory import read_trajectory

if TYPE_CHECKING:
    from selftune.studies.study import Study


def metric_of(study: Study, folder: Path, tuned: Mapping[str, float]) -> MetricSummary | None:
    """The best and the last value of a study's metric; None where nobody knows one.

    Args:
        tuned: measures of the networks at the end. What they hold of the metric is its last value, and comes after
            those that were taken, perhaps on fewer examples, at the hyper-steps.
    """
    steps, values = _history(study.metric, folder)
    if study.metric in tuned and len(trajectory := read_trajectory(folder)):
        steps = np.append(steps, trajectory.hyper_step[-1])
        values = np.append(values, tuned[study.metric])
    if not len(values):
        return None
    best = int(values.argmin() if study.mode == "min" else values.argmax())
    return MetricSummary(
        name=study.metric,
        mode=study.mode,
        best=float(values[best]),
        hyper_step=int(steps[best]),
        last=float(values[-1]),
    )


def _history(metric: str, folder: Path) -> tuple[Int[np.ndarray, "n"], Float[np.ndarray, "n"]]:
    trajectory = read_trajectory(folder)
    if metric == "validation_loss":
        steps, values = trajectory.hyper_step, trajectory.validation_loss
    elif metric in trajectory.diagnostics:
        steps, values = trajectory.hyper_step, trajectory.diagnostics[metric]
    else:
        return np.empty(0, dtype=np.int64), np.empty(0)
    there = np.isfinite(values)
    return steps[there], values[there]


def _task(folder: Path) -> str | None:
    """What a folder's study trains on."""
    try:
        content = parse_yaml(read_text(folder / "study.yaml"))
    except Mistakes as error:
        raise error.in_file(str(folder / "study.yaml")) from error
    objective = content.get("objective")
    return str(objective.get("task")) if isinstance(objective, dict) else None


def ranked(folders: Sequence[Path]) -> list[tuple[Path, Summary]]:
    """Finished studies with one metric, the one that it prefers first.

    Raises:
        UserError: if a folder holds no finished study, or metrics or tasks differ.
    """
    found = [(folder, read_summary(folder)) for folder in folders]
    for folder, summary in found:
        if summary.get("status") != "finished" or "metric" not in summary:
            raise UserError(f"{folder}: holds no finished study; run one, or continue it with `selftune resume`")
    names = {summary["metric"]["name"] for _, summary in found}
    if len(names) > 1:
        raise UserError(
            f"the studies have different metrics: {', '.join(sorted(names))}; compare those that share one"
        )

    tasks = {task: folder for folder, _ in found if (task := _task(folder)) is not None}
    if len(tasks) > 1:
        raise UserError(
            f"the studies have different tasks: {', '.join(sorted(tasks))}; compare those that share one"
        )

    def preference(entry: tuple[Path, Summary]) -> float:
        metric = entry[1]["metric"]
        value = metric["last"] if math.isfinite(metric["last"]) else math.inf
        return value if metric["mode"] == "min" else -value

    return sorted(found, key=preference)
