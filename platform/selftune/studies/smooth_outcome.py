"""What a study of a smooth problem says of its lower level and leaves in its folder."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from selftune.hypergradients.oracle import Oracle
from selftune.hypergradients.proximal import ProximalStep
from selftune.lower_level.smooth_objective import SmoothObjective
from selftune.methods import Report, Values
from selftune.methods.reports import SolvingFinished
from selftune.methods.work_orders import FinishSolving
from selftune.studies.saved_network import save_pickle
from selftune.tracking.pictures import save_pictures
from selftune.tracking.summary import Summary
from selftune.tracking.trajectory import Trajectory, read_reports, read_trajectory
from selftune.training.method_record import SmoothForm, stop_reason

if TYPE_CHECKING:
    from selftune.studies.strategies import SmoothStrategy


def described(objective: SmoothObjective, form: SmoothForm) -> tuple[str, list[str]]:
    """A title, and the lower level at the start values in words."""
    oracle = Oracle(objective)
    constants = oracle.constants(oracle.start_u())
    size = f"{oracle.n} parameters, condition number at most {constants.condition:.4g} at the start"
    if form.draws:
        return "lower level, seen in batches:", [size, "nothing is certified"]
    worth = (
        "its constants are proven, so error bounds and steps are certified"
        if constants.certified
        else "strong convexity or smoothness is estimated, so neither bounds nor steps are certified"
        if constants.estimated
        else "a constant is estimated, so error bounds are heuristic"
    )
    if oracle.nonsmooth and constants.certified:
        known = ProximalStep(oracle, oracle.start_x(), oracle.start_u()).active_set(0.0) is not None
        worth = (
            "its constants are proven, so error bounds are certified wherever the active set of the solution is"
            if known
            else "of its proximal map no active sets are known, so error bounds are heuristic"
        )
    return "lower level, solved to a tolerance:", [size, worth]


def solved_at_start(strategy: SmoothStrategy, folder: Path) -> dict[str, float]:
    """Measures of the lower level's solution at the start values, at the accuracy that the study ended with.

    Raises:
        NotStronglyConvex: if the lower level has no unique solution there.
    """
    asked = read_trajectory(folder).certificate.get("error_asked")
    first = strategy.study.method.error
    error = first if asked is None else min(first, float(asked[-1]))
    start = strategy.space.start_as(torch.float64)
    values = Values(start, strategy.space.constrain(start), version=0)
    report = strategy.trainers()(0).execute(FinishSolving(values=values, error=error))
    return _shown(report.metrics)


def keep_solution(
    strategy: SmoothStrategy, folder: Path, reports: Mapping[int, Report], summary: Summary
) -> Summary:
    """Keeps parameters and pictures; the summary with what the last reports of a team say."""
    objective, space, trajectory = strategy.objective, strategy.space, read_trajectory(folder)
    first = reports[min(reports)]
    assert isinstance(first, SolvingFinished)
    parameters = dict(first.parameters)
    save_pickle(folder / "parameters.pt", parameters)
    u = first.unconstrained
    like = Oracle(objective).start_x()
    pictures = objective.pictures(
        {name: tensor.to(like.device) for name, tensor in parameters.items()}, space.values(u.to(like))
    )
    if pictures:
        save_pictures(folder, {what: batch.detach().cpu().numpy() for what, batch in pictures.items()})
    start, end = (space.constrain(v.double()).tolist() for v in (space.start_as(torch.float64), u))
    summary = {
        **summary,
        "steps": len(trajectory),
        "work": _work(folder),
        "stopped": stop_reason(first.message),
        "seconds": float(trajectory.seconds[-1]) if len(trajectory) else 0.0,
        "hyperparameters": [
            {"name": name, "start": a, "end": b} for name, a, b in zip(space.names, start, end, strict=True)
        ],
        "tuned": _shown(first.metrics),
    }
    if "active_set_certified" in first.metrics:
        summary["remark"] = _active_sets(bool(first.metrics["active_set_certified"]), trajectory)
    return summary


def _active_sets(at_the_end: bool, trajectory: Trajectory) -> str:
    certified = trajectory.certificate.get("active_set_certified", np.zeros(0))
    return (
        f"which parameters are free and which are zero or at a bound is {'' if at_the_end else 'not '}certified at"
        f" the end; it was at {int(np.nansum(certified))} of {len(certified)} steps"
    )


def _shown(metrics: Mapping[str, float]) -> dict[str, float]:
    measures = ("validation_", "test_")
    return {name: value for name, value in metrics.items() if name.startswith(measures) and math.isfinite(value)}


def _work(folder: Path) -> int:
    """Gradients and products of the whole team, without those of the measures at the end."""
    reports = read_reports(folder)
    rows = zip(reports["kind"].to_pylist(), reports["work"].to_pylist(), strict=True)
    return int(sum(work or 0 for kind, work in rows if kind != "finish"))
