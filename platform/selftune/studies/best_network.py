"""The best network of a run by its metric, beside the last one: its tensors, measures, and hyper-step."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import stdev

import numpy as np
import torch
from torch import nn

from selftune.methods import BestStep, Report
from selftune.methods.best_step import Mode
from selftune.methods.measures import average
from selftune.methods.reports import TrainingFinished
from selftune.shapes import Float, Int, Tensor
from selftune.studies.rows import with_spread
from selftune.tracking.summary import BestSummary

FILE = "best_network"


@dataclass(frozen=True)
class BestNetwork:
    """The network at the hyper-step where the metric was best.

    Attributes:
        network: the first trainer's plain network as it was there, in evaluation mode, on the CPU.
        metrics: its validation and test loss (and accuracy, ...), averaged over the team's ``networks``.
        hyperparameters: the values that it was trained with up to there, by name.
        step: training steps until then.
        hyper_step: the hyper-step, from 0.
        metric, value: what was best, and its value then, averaged over the team: taken on the validation batch of
            the hyper-step, so that it can differ from that in ``metrics``, which are those of whole splits.
        networks, spread: number of networks of the team, and standard deviations of ``metrics`` among them.
    """

    network: nn.Module
    metrics: Mapping[str, float]
    hyperparameters: Mapping[str, float]
    step: int
    hyper_step: int
    metric: str
    value: float
    networks: int = 1
    spread: Mapping[str, float] = field(default_factory=dict)


def best_network(
    reports: Mapping[int, Report],
    best: BestStep,
    names: Sequence[str],
    build: Callable[[Mapping[str, Tensor]], nn.Module],
) -> BestNetwork | None:
    """What reports ``TrainingFinished`` say of the best networks; None where there was no hyper-step.

    Args:
        best: the hyper-step.
        names: of the hyperparameters.
        build: makes a network of its tensors by name.
    """
    finished = [report for report in reports.values() if isinstance(report, TrainingFinished)]
    holding = [report for report in finished if report.best_measures]
    if best.number < 0 or not holding:
        return None
    first = holding[0]
    measures, spread = [report.best_measures for report in holding], {}
    if len(holding) > 1:
        spread = {name: stdev(found[name] for found in measures) for name in first.best_measures}
    return BestNetwork(
        network=build(first.best_network or first.network),  # where both are the same, it is there once
        metrics={name: average(found[name] for found in measures) for name in first.best_measures},
        hyperparameters=dict(zip(names, best.hyperparameters.tolist(), strict=True)),
        step=best.training_step,
        hyper_step=best.number,
        metric=best.metric,
        value=best.value,
        networks=len(holding),
        spread=spread,
    )


def best_row(
    metric: str,
    mode: Mode,
    hyper_steps: Int[np.ndarray, "rows"],
    training_steps: Int[np.ndarray, "rows"],
    measured: Float[np.ndarray, "rows"],
    values: Float[np.ndarray, "rows n"],
) -> BestStep:
    """The best hyper-step of a trajectory, as the method saw it: the first one of equal ones.

    >>> row = best_row("validation_loss", "min", np.arange(2), np.array([5, 10]), np.array([2.0, 1.0]), np.eye(2))
    >>> row.number, row.training_step
    (1, 10)
    """
    there = np.flatnonzero(np.isfinite(measured))
    best = BestStep(metric, mode)
    if len(there):
        at = there[measured[there].argmin() if mode == "min" else measured[there].argmax()]
        best.number, best.training_step = int(hyper_steps[at]), int(training_steps[at])
        best.value, best.hyperparameters = float(measured[at]), torch.from_numpy(values[at].copy())
    return best


def summary_of(best: BestNetwork) -> BestSummary:
    """What ``summary.json`` keeps of it."""
    return BestSummary(
        metric=best.metric,
        value=best.value,
        hyper_step=best.hyper_step,
        training_step=best.step,
        hyperparameters=dict(best.hyperparameters),
        measures=dict(best.metrics),
        networks=best.networks,
        spread=dict(best.spread),
    )


def sentence_of(best: BestSummary) -> str:
    """What a person reads of it.

    >>> measures = {"validation_loss": 0.51, "test_loss": 0.6}
    >>> best = BestSummary(metric="validation_loss", value=0.5, hyper_step=3, training_step=200, measures=measures)
    >>> sentence_of(best)
    'validation loss 0.5 at hyper-step 3, training step 200; that network has validation loss 0.51, test loss 0.6'
    """
    spread, networks = best.get("spread", {}), best.get("networks", 1)
    measures = ", ".join(
        f"{name.replace('_', ' ')} {with_spread(value, spread.get(name))}"
        for name, value in best["measures"].items()
    )
    at = f"hyper-step {best['hyper_step']}, training step {best['training_step']}"
    whose = "that network has" if networks == 1 else f"mean of those {networks} networks ± standard deviation:"
    return f"{best['metric'].replace('_', ' ')} {best['value']:.4g} at {at}; {whose} {measures}"
