"""What a study of networks leaves in its folder: networks, schedule, measures, and those of a comparison."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from rich.console import Console

from selftune.listener import Listeners
from selftune.methods import Budget, Replay, Report, Segment
from selftune.schedule import FILE as SCHEDULE
from selftune.schedule import Schedule
from selftune.studies.averages import mean_metrics, spread_metrics
from selftune.studies.best_network import FILE as BEST
from selftune.studies.best_network import best_network, best_row, summary_of
from selftune.studies.metric import values_of
from selftune.studies.saved_network import TUNED, save_network
from selftune.studies.verdict import HELD, TrainerFaults
from selftune.tracking.summary import HyperparameterSummary, Summary
from selftune.tracking.trajectory import read_trajectory

if TYPE_CHECKING:
    from selftune.studies.runner import Runner
    from selftune.studies.strategies import NetworkStrategy

COMPARISON = "comparison"
"""Folder of the checkpoints of networks that are trained with the start values held."""


def keep_networks(
    strategy: NetworkStrategy, folder: Path, reports: Mapping[int, Report], summary: Summary
) -> Summary:
    """Keeps the first trainer's network, the best one and the schedule; the summary with all measures."""
    study, space, first = strategy.study, strategy.space, reports[min(reports)]
    save_network(folder, TUNED, strategy.trained(first))
    trajectory = read_trajectory(folder)
    measured = values_of(study.metric, trajectory)
    best = best_network(
        reports,
        best_row(
            study.metric, study.mode, trajectory.hyper_step, trajectory.training_step, measured, trajectory.values
        ),
        space.names,
        strategy.built_of,
    )
    start = space.constrain(space.start).tolist()
    end = trajectory.values[-1].tolist() if len(trajectory) else start
    steps = int(first.metrics["training_step"])
    if len(trajectory):
        Schedule.of_run(space, trajectory.training_step, trajectory.values, steps).save(folder / SCHEDULE)
    summary = {
        **summary,
        "training_steps": steps,
        "seconds": float(trajectory.seconds[-1]) if len(trajectory) else 0.0,
        "hyperparameters": [
            HyperparameterSummary(name=name, start=a, end=b)
            for name, a, b in zip(space.names, start, end, strict=True)
        ],
        **_measures("tuned", reports, summary),
    }
    if best is not None:
        save_network(folder, BEST, best.network)
        summary["best"] = summary_of(best)
    if first.message:
        summary["remark"] = first.message
    return summary


def trained_at_start(
    strategy: NetworkStrategy, folder: Path, console: Console, runner: Runner, summary: Summary
) -> Summary:
    """Measures of networks trained as long with the start values held."""
    steps, space = summary["training_steps"], strategy.space
    display = strategy.display(console, f"{strategy.study.study}, {HELD}", Budget(steps=steps))
    listener = Listeners([display, TrainerFaults(folder, HELD)])
    segment = Segment(steps, space.constrain(space.start))
    apart = replace(strategy.trainers(), group_size=1, diagnostics=())  # a network of each group is enough
    method = partial(Replay, [segment], steps, strategy.networks)
    reports = runner.run(
        method, apart, folder / COMPARISON, listener, strategy.networks, phase=HELD, budget=Budget(steps=steps)
    )
    return _measures("fixed", reports, summary)


def _measures(row: Literal["tuned", "fixed"], reports: Mapping[int, Report], summary: Summary) -> Summary:
    """A row of the comparison, and over how many networks, with which spread."""
    measures: Summary = {
        "networks": {**summary.get("networks", {}), row: len(reports)},
        "spread": {**summary.get("spread", {}), row: spread_metrics(reports)},
    }
    measures[row] = mean_metrics(reports)
    return measures
