"""Whether a schedule was worth it: networks trained with it, and with its last values held from the start.

Hypergradients look some steps ahead. A schedule that follows them can spoil what comes later, or come too late to
where it ends; then its last values, held from the start, do better.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from statistics import mean, stdev
from typing import TYPE_CHECKING

from rich.console import Console

from selftune.listener import Listeners
from selftune.lower_level.better import mode_of
from selftune.methods import Budget, Replay, Report, Segment
from selftune.methods.best_step import Mode
from selftune.methods.paired_test import student_t_quantile
from selftune.schedule import FILE as SCHEDULE_FILE
from selftune.schedule import Schedule
from selftune.studies.averages import mean_metrics, spread_metrics
from selftune.studies.display import say
from selftune.studies.segments import segments
from selftune.studies.study_failed import StudyFailed
from selftune.studies.verdict import TrainerFaults
from selftune.tracking.summary import HorizonSummary, Summary

if TYPE_CHECKING:
    from selftune.studies.runner import Runner
    from selftune.studies.strategies import NetworkStrategy

SCHEDULE, END, SETTLED = "schedule", "end values held", "mean at the end"
FOLDERS = {SCHEDULE: "horizon_schedule", END: "horizon_held", SETTLED: "horizon_settled"}
"""Of the checkpoints of these networks."""
_LEVEL = 0.05  # of the one-sided t-test
_WORTH = 0.01  # of the value: a smaller difference is not worth a word


def plans(schedule: Schedule, average: float | None = None) -> dict[str, list[Segment]]:
    """What hyperparameters do in each kind of networks.

    Args:
        average: see ``Horizon``.
    """
    kinds = {SCHEDULE: schedule, END: schedule.held()}
    if average is not None:
        kinds[SETTLED] = schedule.settled(average)
    return {kind: segments(one) for kind, one in kinds.items()}


def compared_with_held(
    strategy: NetworkStrategy, folder: Path, console: Console, runner: Runner, summary: Summary
) -> Summary:
    """Trains the networks that the study's section ``horizon`` asks for; what the summary says of them."""
    settings, study = strategy.study.horizon, strategy.study
    assert settings is not None
    if not (folder / SCHEDULE_FILE).is_file():
        say(console, "no look back: nothing was tuned")
        return {"horizon": {}}
    steps = settings.steps(summary["training_steps"])
    factory = replace(strategy.trainers(_other_seed(study.seed)), group_size=1, diagnostics=())
    if study.budget.steps is not None:  # of a run of so many steps, "progress" is a share
        factory = replace(factory, steps=steps)
    reports: dict[str, Mapping[int, Report]] = {}
    for kind, plan in plans(Schedule.load(folder).stretched(steps), settings.average).items():
        label = f"{SCHEDULE} again" if kind == SCHEDULE else kind
        display = strategy.display(console, f"{study.study}, {label}", Budget(steps=steps))
        try:
            reports[kind] = runner.run(
                partial(Replay, plan, steps, settings.networks),
                factory,
                folder / FOLDERS[kind],
                Listeners([display, TrainerFaults(folder, label)]),
                settings.networks,
                phase=label,
                budget=Budget(steps=steps),
            )
        except StudyFailed as error:
            say(console, f"{label}: {error}")
            reports[kind] = {}
    return {"horizon": horizon_of(study.metric, study.mode, reports, steps)}


def _other_seed(seed: int) -> int:
    """The study's schedule was made for its own networks, whose noise it has followed; others judge it."""
    return (seed + 1) % 2**63


def horizon_of(metric: str, mode: Mode, reports: Mapping[str, Mapping[int, Report]], steps: int) -> HorizonSummary:
    """What the networks of each kind say, and a sentence on it.

    Networks of the same number had the same random numbers, so that they are compared one by one. One kind does
    better if it does so on the mean by more than a percent, and by a one-sided paired t-test at 5 percent.

    Args:
        metric: of the study; the validation loss takes its place where the networks at the end are not measured
            by it.
        mode: whether a smaller (min) or a larger metric is better.
        reports: the last ones, by kind and number; none of a kind of which no network came to its end.
        steps: training steps of each.
    """
    measured = {kind: {n: report.metrics for n, report in found.items()} for kind, found in reports.items()}
    if not all(metric in measures for found in measured.values() for measures in found.values()):
        metric, mode = "validation_loss", mode_of("validation_loss")
    values = {
        kind: {n: measures[metric] for n, measures in found.items() if metric in measures}
        for kind, found in measured.items()
    }
    there = {kind: found for kind, found in reports.items() if found}
    better, sentence = _verdict(metric.replace("_", " "), mode, values)
    return {
        "metric": metric,
        "training_steps": steps,
        "networks": {kind: len(found) for kind, found in reports.items()},
        "results": {kind: mean_metrics(found) for kind, found in there.items()},
        "spread": {kind: spread_metrics(found) for kind, found in there.items()},
        "held_is_better": better,
        "sentence": sentence,
    }


def _verdict(words: str, mode: Mode, values: Mapping[str, Mapping[int, float]]) -> tuple[bool, str]:
    """Whether the last values do surely better, and the sentence."""
    schedule, held = values[SCHEDULE], values[END]
    if not schedule or not held:
        kind = "the last values held from the start" if schedule else "the schedule"
        return bool(held), f"trained again with {kind}, no network got to its end"
    pairs = sorted(schedule.keys() & held.keys())
    gains = [(held[n] - schedule[n]) * (1 if mode == "max" else -1) for n in pairs]
    settled = values.get(SETTLED)
    number = f"means of {len(pairs)} networks" if len(pairs) > 1 else "one network each"
    with_mean = f", {mean(settled.values()):.4g} with its mean held at the end" if settled else ""
    numbers = (
        f"{words} {mean(schedule.values()):.4g} with the schedule, {mean(held.values()):.4g} with its last values"
        f" held from the start{with_mean} ({number})"
    )
    if len(pairs) == 1:
        return False, f"more seeds say which of them does better: {numbers}"
    least = _WORTH * abs(mean(schedule.values()))
    if _better(gains, least):
        return True, f"fixed values at the end do better: {numbers}"
    if _better([-gain for gain in gains], least):
        return False, f"the schedule does better than fixed values: {numbers}"
    return False, f"no clear difference between the schedule and fixed values: {numbers}"


def _better(gains: Sequence[float], least: float) -> bool:
    if len(gains) < 2:
        return False
    quantile = student_t_quantile(1 - _LEVEL, len(gains) - 1)
    return mean(gains) > max(least, quantile * stdev(gains) / math.sqrt(len(gains)))
