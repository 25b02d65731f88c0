"""Tuning a smooth problem from Python: the part of ``tune`` for lower levels that are solved to a tolerance."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from selftune.errors import SettingError
from selftune.fields import settings_of
from selftune.hyperparameters import Space
from selftune.lower_level.smooth_objective import SmoothObjective
from selftune.lower_level.smooth_problem import SmoothProblem
from selftune.methods import Budget, HyperStep
from selftune.methods.team import check_team
from selftune.shapes import Tensor
from selftune.studies.call import call_of, carry_out, claim
from selftune.studies.stderr_progress import progress_on_stderr
from selftune.studies.tuning_result import TuningResult
from selftune.training.method_record import fitting, methods, stop_reason

_MEASURES = ("training_", "validation_", "test_")

WORK = 20_000
"""Budget of work where none is given."""


@dataclass(frozen=True, repr=False)
class SmoothResult(TuningResult):
    """What ``tune`` found for a smooth problem; it shows itself as a table, see ``Result``.

    Attributes:
        hyperparameters: the values at the end, by name, with ``[part]`` where there are parts.
        values: the same as tensors by name, in the shape of their start.
        parameters: the lower level's solution there, on the CPU.
        trajectory: every accepted step, in order, each with its certificate.
        metrics: training and validation loss, and what else the problem measures.
        stopped: why the method was done, see ``InexactLineSearch``; ``stationary`` and ``pinned`` are
            proven, all else is not.
    """

    hyperparameters: Mapping[str, float]
    values: Mapping[str, Tensor]
    parameters: Mapping[str, Tensor]
    trajectory: Sequence[HyperStep]
    metrics: Mapping[str, float]
    stopped: str

    _unit = "upper step"

    def _at(self, step: HyperStep) -> int:
        return step.number + 1

    def _best(self) -> tuple[int, str, float] | None:
        """None where the end is the best."""
        best, end = super()._best(), self.metrics.get("validation_loss", math.inf)
        return None if best is None or end <= best[2] else best

    def _sentences(self) -> Iterator[str]:
        yield from super()._sentences()
        yield f"ended because {stop_reason(self.stopped)}"

    @property
    def certified(self) -> bool:
        """Whether the end is proven to be stationary."""
        return self.stopped in ("stationary", "pinned")


def refuse_unused(**given: Any) -> None:
    """Refuses arguments of ``tune`` that mean nothing to a smooth problem, where they are given.

    Raises:
        SettingError: naming the first.

    >>> refuse_unused(regularizers=(), seed=None)
    """
    reasons = {
        "regularizers": "cannot act on a problem that trains no network; put the penalty into its lower level",
        "seconds": "is no budget of a smooth problem; give steps or work",
        "seed": "has no effect on a method that draws nothing at random; leave it out",
        "device": "is that of a smooth problem's tensors; leave it out",
    }
    for key, value in given.items():
        if value is not None and value != () and value != {}:
            raise SettingError(key, reasons[key])


def tune_smooth(
    objective: SmoothObjective,
    *,
    method: str,
    steps: int | None,
    work: int | None,
    trainers: int,
    seed: int,
    output: str | Path | None,
    progress: bool | None,
    settings: Mapping[str, Any],
) -> SmoothResult:
    """See ``tune``.

    Raises:
        SettingError: if a setting is wrong; its key names it.
        LowerLevelError: if the lower level is not what its constants say.
    """
    form = methods[method].smooth
    if form is None:
        raise SettingError("method", f"{method} trains networks; use {' or '.join(fitting(objective))}")
    if not form.draws:
        refuse_unused(seed=seed or None)
    check_team(trainers, form.group_size, key="trainers")
    budget = Budget(steps=steps, work=WORK if steps is None and work is None else work)
    chosen = settings_of(form.settings, settings)
    for mistake in form.checks(objective, chosen):
        raise mistake.at_call()
    machine = form.make(budget, chosen, trainers)
    for mistake in machine.mistakes(Space(objective.hyperparameters)):
        raise mistake.at_call()
    if output is not None:
        arguments = {"method": method, "budget": budget, "trainers": trainers, "settings": chosen}
        if form.draws:
            arguments["seed"] = seed
        claim(Path(output), call_of(objective, **arguments))
    factory = form.trainers(objective, chosen, torch.get_num_threads(), seed)
    team = {member: factory(member) for member in range(trainers)}
    shown = progress_on_stderr(progress, "tune", budget, smooth=True)
    reports, taken = carry_out(machine, team, output, shown)
    report = reports[min(reports)]
    space = team[min(reports)].space
    u = report.payload["unconstrained"].double()
    values = space.values(u)
    if isinstance(objective, SmoothProblem):
        values = objective.shaped(values)
    result = SmoothResult(
        hyperparameters=dict(zip(space.names, space.constrain(u).tolist(), strict=True)),
        values={h.name: values[h.name] for h in space.tuned},
        parameters={
            name.removeprefix("parameters."): tensor
            for name, tensor in report.payload.items()
            if name.startswith("parameters.")
        },
        trajectory=taken,
        metrics={name: value for name, value in report.metrics.items() if name.startswith(_MEASURES)},
        stopped=str(machine.stopped),
    )
    if output is not None:
        from selftune.studies.result_folder import keep_result  # needs pyarrow, as the trajectory does

        keep_result(Path(output), result, steps=len(taken), stopped=stop_reason(result.stopped))
    return result
