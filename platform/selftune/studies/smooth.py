"""What is special about studies of smooth objectives: checks, the comparison, results, words."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from selftune.errors import SettingError, suggestion
from selftune.hypergradients.oracle import Oracle
from selftune.hypergradients.proximal import ProximalStep
from selftune.lower_level.smooth_objective import SmoothObjective
from selftune.methods import Report, WorkOrder
from selftune.storage.files import replacing
from selftune.studies.mistakes import UserError
from selftune.tracking.pictures import save_pictures
from selftune.tracking.summary import Summary
from selftune.tracking.trajectory import Trajectory, read_reports
from selftune.training.method_record import NetworkForm, SmoothForm, stop_reason

if TYPE_CHECKING:
    from selftune.studies.study import Study


def smooth_mistakes(study: Study) -> Iterator[SettingError]:
    """What fits each for itself, but not together."""
    objective = study.objective
    assert isinstance(objective, SmoothObjective)
    if study.regularizers:
        names = ", ".join(dict.fromkeys(h.name for h in objective.hyperparameters))
        yield SettingError(
            "regularizers",
            "cannot act on a task that trains no network; remove this section, the hyperparameters"
            f" ({names}) belong to the task",
        )
    on_gpu = str(getattr(objective, "device", "cpu")).startswith("cuda")
    if study.trainers.gpus and not on_gpu:
        yield SettingError("trainers.gpus", "must be 0, because the objective's device is the cpu; set both")
    if on_gpu and not study.trainers.gpus:
        yield SettingError("objective.device", "is a GPU, but the trainers get none; set trainers.gpus")
    if not len(study.space):
        yield SettingError("objective", "nothing is tuned; the task fixes all of its hyperparameters")
        return
    assert isinstance(study.form, SmoothForm)
    found = list(study.form.checks(objective, study.method))
    found += study.build_method().mistakes(study.space)
    yield from found
    if found:
        return
    oracle = Oracle(objective)
    if study.metric != "validation_loss":  # other metrics may cost solves of the lower level
        measured = objective.metrics(oracle.unravel(oracle.start_x()), oracle.values(oracle.start_u()))
        known = ["validation_loss", *(name for name in measured if name.startswith("validation_"))]
        if study.metric not in known:
            yield SettingError("metric", f"unknown metric {study.metric!r}; {suggestion(study.metric, known)}")


def described(objective: SmoothObjective, form: NetworkForm | SmoothForm) -> tuple[str, list[str]]:
    """A title, and the lower level at the start values in words."""
    oracle = Oracle(objective)
    constants = oracle.constants(oracle.start_u())
    size = f"{oracle.n} parameters, condition number at most {constants.condition:.4g} at the start"
    if isinstance(form, SmoothForm) and form.draws:
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


def solved_at_start(study: Study, trajectory: Trajectory) -> dict[str, float]:
    """Measures of the lower level's solution at the start values, at the accuracy that the study ended with.

    Raises:
        NotStronglyConvex: if the lower level has no unique solution there.
    """
    asked = trajectory.certificate.get("error_asked")
    error = study.method.error if asked is None else min(study.method.error, float(asked[-1]))
    body = {"unconstrained": study.space.start_as(torch.float64), "error": error, "warm": None}
    report = study.trainer_factory()(0).execute(WorkOrder("finish", body))
    return _shown(report.metrics)


def summarised(study: Study, folder: Path, reports: Mapping[int, Report], trajectory: Trajectory) -> Summary:
    """What the finish reports of a team say; keeps parameters and pictures in the folder."""
    objective = study.objective
    assert isinstance(objective, SmoothObjective)
    first = reports[min(reports)]
    prefix = "parameters."
    parameters = {k.removeprefix(prefix): v for k, v in first.payload.items() if k.startswith(prefix)}
    with replacing(folder / "parameters.pt") as temporary:
        torch.save(parameters, temporary)
    u = first.payload["unconstrained"]
    like = Oracle(objective).start_x()
    pictures = objective.pictures(
        {name: tensor.to(like.device) for name, tensor in parameters.items()}, study.space.values(u.to(like))
    )
    if pictures:
        save_pictures(folder, {what: batch.detach().cpu().numpy() for what, batch in pictures.items()})
    start, end = (study.space.constrain(v.double()).tolist() for v in (study.space.start_as(torch.float64), u))
    summary: Summary = {
        "steps": len(trajectory),
        "work": _work(folder),
        "stopped": stop_reason(first.message),
        "seconds": float(trajectory.seconds[-1]) if len(trajectory) else 0.0,
        "hyperparameters": [
            {"name": name, "start": a, "end": b} for name, a, b in zip(study.space.names, start, end, strict=True)
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


def refuse_replay(study: Study, folder: Path) -> None:
    """Refuses what only makes sense for networks.

    Raises:
        UserError: for studies of smooth objectives.
    """
    if isinstance(study.objective, SmoothObjective):
        raise UserError(
            f"{folder}: {study.method_name} trains no network, so there is no schedule to replay; its result is"
            f" {folder / 'parameters.pt'}"
        )


def _shown(metrics: Mapping[str, float]) -> dict[str, float]:
    measures = ("validation_", "test_")
    return {name: value for name, value in metrics.items() if name.startswith(measures) and math.isfinite(value)}


def _work(folder: Path) -> int:
    """Gradients and products of the whole team, without those of the measures at the end."""
    reports = read_reports(folder)
    rows = zip(reports["kind"].to_pylist(), reports["work"].to_pylist(), strict=True)
    return int(sum(work or 0 for kind, work in rows if kind != "finish"))
