"""Tuning from Python: no study file, no Ray, nothing but torch and numpy."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, overload

import numpy as np
import torch
from torch import nn

from selftune.errors import SettingError, suggestion
from selftune.fields import settings_of
from selftune.hypergradients.best_response import ConversionReport
from selftune.hyperparameters import Space
from selftune.lower_level.better import mode_of
from selftune.lower_level.objective import NetworkObjective
from selftune.lower_level.smooth_objective import SmoothObjective
from selftune.methods import Budget, HyperStep, Report
from selftune.methods.team import check_team
from selftune.networks.inventory import undisturbed
from selftune.networks.network_state import load_state
from selftune.regularization.regularizer import Regularizer, built_regularizers
from selftune.schedule import Schedule
from selftune.shapes import Tensor
from selftune.storage.files import replacing
from selftune.studies.averages import mean_metrics, spread_metrics
from selftune.studies.best_network import best_network
from selftune.studies.call import call_of, carry_out, claim
from selftune.studies.network import metrics_of
from selftune.studies.result import Result
from selftune.studies.rows import MAXIMUM_ROWS
from selftune.studies.stderr_progress import progress_on_stderr
from selftune.studies.tune_smooth import SmoothResult, refuse_unused, tune_smooth
from selftune.training import TrainerFactory
from selftune.training.checks import conversion_of, coverage_of, run_mistakes
from selftune.training.coverage import Coverage
from selftune.training.method_record import fitting, methods

LOSS = "validation_loss"


@overload
def tune(
    objective: NetworkObjective,
    regularizers: Mapping[str, Mapping[str, Any]] | Iterable[Regularizer],
    *,
    steps: int | None = None,
    seconds: float | None = None,
    patience: int | None = None,
    metric: str = LOSS,
    trainers: int = 1,
    seed: int = 0,
    device: str = "cpu",
    output: str | Path | None = None,
    progress: bool | None = None,
    method: str = "self_tuning",
    **settings: Any,
) -> Result: ...
@overload
def tune(
    objective: SmoothObjective,
    *,
    method: str,
    steps: int | None = None,
    work: int | None = None,
    trainers: int = 1,
    output: str | Path | None = None,
    progress: bool | None = None,
    **settings: Any,
) -> SmoothResult: ...
def tune(
    objective: NetworkObjective | SmoothObjective,
    regularizers: Mapping[str, Mapping[str, Any]] | Iterable[Regularizer] = (),
    *,
    steps: int | None = None,
    seconds: float | None = None,
    work: int | None = None,
    patience: int | None = None,
    metric: str = LOSS,
    trainers: int = 1,
    seed: int = 0,
    device: str = "cpu",
    output: str | Path | None = None,
    progress: bool | None = None,
    method: str = "self_tuning",
    **settings: Any,
) -> Result | SmoothResult:
    """Trains networks while a bilevel method moves their regularization, in this process; or a smooth problem.

    Args:
        objective: what is trained, for example a ``Classification``; or a ``SmoothProblem`` or another
            ``SmoothObjective``, with ``method="inexact_line_search"`` or ``"implicit"``, which takes no
            regularizers, seed or device.
        regularizers: settings by the regularizer's name as in a study file, or regularizers themselves;
            what is a ``Tune`` is tuned.
        steps, seconds: the budget, one of them: training steps of every trainer, or seconds.
        work: the budget of smooth problems, in lower-level gradients and products of the team, unless ``steps``
            counts accepted steps; 20,000 if neither is given.
        patience: hyper-steps without a better metric after which training stops early; None for never.
        metric: what says which network is the best: ``validation_loss``, or another measure of the validation
            split, such as ``validation_accuracy``, of which larger values are better.
        trainers: networks trained side by side, whose hypergradients are averaged.
        seed: everything random follows from it.
        device: a torch device.
        output: folder for the trajectory, ``schedule.json``, the network's weights, and for checkpoints, from
            which the same call goes on when it is repeated; a folder of another call is refused.
            ``selftune compare`` ranks such folders, ``selftune.replay`` trains with their schedules.
        progress: whether stderr gets what of the network is reached and responds, and how far training is: a live
            display on a terminal, else a line now and then. None shows it where somebody looks: on a terminal and
            in a notebook.
        method: ``self_tuning`` tunes whatever is online; ``implicit``, ``penalty`` and ``inexact_line_search``
            what is smooth beside.
        settings: of the method, see ``SelfTuningSettings``, ``OnlineImplicitSettings``, ``PenaltySettings`` and
            ``NetworkLineSearchSettings``; of smooth problems ``InexactLineSearchSettings`` and
            ``ImplicitSettings``, and ``solver``.

    Raises:
        SettingError: if a setting is wrong; its key names it.
        NoTrainerLeft: if training diverges.
        LowerLevelError: if a smooth lower level is not what its constants say.

    >>> import torch
    >>> from selftune import Classification, Optimization, Tune, tune
    >>> torch.manual_seed(0).initial_seed()
    0
    >>> x, y = torch.randn(96, 8), torch.randint(3, (96,))
    >>> split = [(x[i : i + 32], y[i : i + 32]) for i in (0, 32, 64)]
    >>> network = lambda: torch.nn.Sequential(torch.nn.Linear(8, 16), torch.nn.ReLU(), torch.nn.Linear(16, 3))
    >>> objective = Classification(network, *split, Optimization(batch_size=16))
    >>> result = tune(objective, {"weight_decay": {"strength": Tune(1e-3)}}, steps=30, warmup_steps=10)
    >>> list(result.hyperparameters), len(result.trajectory)
    (['weight_decay.strength'], 4)
    >>> result.network(x).shape
    torch.Size([96, 3])
    """
    known = methods.names()
    if method not in known:
        raise SettingError("method", f"unknown name {method!r}; {suggestion(str(method), known)}")
    if isinstance(objective, SmoothObjective):
        placed = None if device == "cpu" else device
        other = None if metric == LOSS else metric
        refuse_unused(
            regularizers=regularizers,
            seconds=seconds,
            device=placed,
            patience=patience,
            metric=other,
        )
        return tune_smooth(
            objective,
            method=method,
            steps=steps,
            work=work,
            trainers=trainers,
            seed=seed,
            output=output,
            progress=progress,
            settings=settings,
        )
    if work is not None:
        raise SettingError("work", f"is no budget of {method} with networks; give steps or seconds")
    form = methods[method].network
    if form is None:
        raise SettingError("method", f"{method} solves smooth problems; use {' or '.join(fitting(objective))}")
    check_team(trainers, form.group_size, key="trainers")
    budget, chosen = Budget(steps=steps, seconds=seconds, patience=patience), settings_of(form.settings, settings)
    factory = TrainerFactory(
        objective,
        built_regularizers(regularizers),
        seed=seed,
        device=device,
        group_size=form.group_size,
        steps=steps,
    )
    for mistake in run_mistakes(factory, lambda: form.make(budget, chosen, trainers), form, chosen):
        raise mistake.at_call()
    if metric not in (known := metrics_of(objective)):
        raise SettingError("metric", f"unknown metric {metric!r}; {suggestion(metric, known)}")
    if output is not None:
        arguments = {
            "method": method,
            "budget": budget,
            "trainers": trainers,
            "seed": seed,
            "metric": metric,
            "settings": chosen,
        }
        claim(Path(output), call_of(objective, factory.regularizers, **arguments))
    machine = form.make(budget, chosen, trainers)
    machine.judge_by(metric, mode_of(metric))
    team = {member: factory(member) for member in range(trainers)}
    shown = progress_on_stderr(progress, "tune", budget)
    if shown is not None or output is not None:
        response = None if form.response is None else form.response(chosen)
        coverage = coverage_of(factory, response)
        conversion = None if response is None else conversion_of(factory, response)
        if shown is not None:
            shown.say(network_report(coverage, conversion, MAXIMUM_ROWS))
        if output is not None:
            with replacing(Path(output) / "conversion.txt") as temporary:
                temporary.write_text(network_report(coverage, conversion) + "\n", encoding="utf-8")
    reports, taken = carry_out(machine, team, output, shown)
    first = min(reports)
    space = team[first].space
    done = int(reports[first].metrics["training_step"])
    result = Result(
        hyperparameters=dict(zip(space.names, machine.hyperparameters.tolist(), strict=True)),
        trajectory=taken,
        network=network_of(objective, factory.regularizers, reports[first]),
        metrics=mean_metrics(reports),
        schedule=schedule_of(space, taken, done) if taken else None,
        networks=len(reports),
        spread=spread_metrics(reports),
        best=best_network(
            reports, machine.best, space.names, partial(network_from, objective, factory.regularizers)
        ),
    )
    if output is not None:
        from selftune.studies.result_folder import keep_result  # needs pyarrow, as the trajectory does

        keep_result(Path(output), result, training_steps=done)
    return result


def schedule_of(space: Space, trajectory: Sequence[HyperStep], steps: int) -> Schedule:
    """What the hyperparameters did in a run of so many training steps."""
    ends = np.array([step.training_step for step in trajectory])
    values = torch.stack([step.hyperparameters for step in trajectory]).double().cpu().numpy()
    return Schedule.of_run(space, ends, values, steps)


def network_report(coverage: Coverage, conversion: ConversionReport | None, most: int | None = None) -> str:
    """What of a network is reached and responds, and how; at most so many lines on its layers."""
    if conversion is None:
        return str(coverage)
    layers = str(conversion).splitlines()
    if most is not None and len(layers) > most:
        layers = [*layers[:most], f"and {len(layers) - most} more"]
    return "\n".join([*layers, "", str(coverage)])


def network_of(objective: NetworkObjective, regularizers: Iterable[Regularizer], report: Report) -> nn.Module:
    """The plain network that a "finish" report carries, with what regularizers made part of it."""
    prefix = "network."
    tensors = {k.removeprefix(prefix): v for k, v in report.payload.items() if k.startswith(prefix)}
    return network_from(objective, regularizers, tensors)


def network_from(
    objective: NetworkObjective, regularizers: Iterable[Regularizer], tensors: Mapping[str, Tensor]
) -> nn.Module:
    """The plain network with these tensors, by name, in evaluation mode."""
    with undisturbed():
        network = objective.network()
        for regularizer in regularizers:
            regularizer.extend(network)
    load_state(network, tensors)
    return network.eval()
