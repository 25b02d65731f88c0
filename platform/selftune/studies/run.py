"""Running a study: tune, compare with fixed hyperparameters, report, and leave a folder that says it all."""

from __future__ import annotations

import sys
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Literal, cast

from rich.console import Console

from selftune.listener import Listeners
from selftune.lower_level.objective import NetworkObjective
from selftune.lower_level.smooth_objective import LowerLevelError, SmoothObjective
from selftune.methods import Budget, Report
from selftune.schedule import FILE as SCHEDULE
from selftune.schedule import Schedule
from selftune.storage.files import remove_leftovers, replacing
from selftune.studies.averages import mean_metrics, spread_metrics
from selftune.studies.best_network import FILE as BEST
from selftune.studies.best_network import best_network, best_row, summary_of
from selftune.studies.display import Display, say
from selftune.studies.folder import COMPARISON, held
from selftune.studies.metric import metric_of, values_of
from selftune.studies.mlflow_process import MlflowProcess
from selftune.studies.runner import Runner, StudyFailed, constant
from selftune.studies.saved_network import TUNED, save_network
from selftune.studies.smooth import solved_at_start, summarised
from selftune.studies.smooth_display import SmoothDisplay
from selftune.studies.started import write_started
from selftune.studies.study import Study
from selftune.studies.tune import network_from, network_of
from selftune.studies.verdict import LostTrainers, noted_warnings, warnings_of
from selftune.tracking.report import write_report
from selftune.tracking.summary import HyperparameterSummary, Summary, read_summary, write_summary
from selftune.tracking.trajectory import TrajectoryWriter, read_trajectory
from selftune.training import TrainerFactory

HELD = "start values held"


def run(study: Study, folder: Path, console: Console, *, local: bool, mlflow: bool = True) -> Summary:
    """Runs the study of a folder to its end, from the start or from where it was stopped.

    The folder gets everything while it goes: trajectory, checkpoints, then network, comparison and report;
    ``summary.json`` says at any time whether the study is running, finished, failed or interrupted.

    Args:
        folder: made by ``new_folder``, holding the study file.
        console: where progress is shown.
        local: run in-process instead of on Ray.
        mlflow: whether a process beside this one sends the study to MLflow.

    Raises:
        StudyFailed: one sentence, if no trainer gets to the end.
        KeyboardInterrupt: after SIGINT; the folder can be resumed.
        UserError: if another process runs the study of this folder.
    """
    with held(folder):
        remove_leftovers(folder)
        write_started(folder, study.text, local)  # a larger budget counts from now on
        summary = cast(Summary, {"name": study.study, **read_summary(folder), "status": "running"})
        summary.pop("message", None)
        if study.converts:
            coverage = str(study.coverage)
            with replacing(folder / "conversion.txt") as temporary:
                temporary.write_text(f"{study.conversion}\n\n{coverage}\n", encoding="utf-8")
            for line in coverage.splitlines():
                say(console, line)
        write_summary(folder, summary)
        sender = MlflowProcess(folder) if mlflow else None
        status = "failed"
        try:
            summary = _phases(study, folder, console, Runner(study, local), summary)
            write_report(folder, {**summary, "status": "finished"})
            status = "finished"
        except KeyboardInterrupt:
            status = "interrupted"
            raise
        finally:  # a bug leaves its traceback, and still a folder that says "failed"
            if status != "finished":
                summary = {**read_summary(folder), "message": f"{sys.exc_info()[1]}"}
            write_summary(folder, {**summary, "status": status})
            if sender is not None:
                sender.finish(console, patient=status == "finished")
        return summary


def _phases(study: Study, folder: Path, console: Console, runner: Runner, summary: Summary) -> Summary:
    if not runner.local:
        say(console, "starting Ray (`--local` does without)")
    with runner.ready():
        if "tuned" not in summary:
            show = SmoothDisplay if isinstance(study.objective, SmoothObjective) else Display
            display = show(console, study.study, study.budget)
            listener = Listeners([TrajectoryWriter(folder), display, LostTrainers(folder, "tuned")])
            reports = runner.run(study.build_method, study.trainer_factory(), folder, listener)
            summary = _tuned(study, folder, reports, {**summary, "warnings": noted_warnings(folder)})
            metric = metric_of(study.metric, study.mode, folder, summary["tuned"])
            if metric is not None:
                summary = {**summary, "metric": metric}
                write_summary(folder, summary)
        if "fixed" not in summary:
            try:
                summary = {**summary, **_compared(study, folder, console, runner, summary)}
            except (StudyFailed, LowerLevelError) as error:  # what tuning gave is there all the same
                say(console, f"no comparison: with the {HELD}, {error}")
                summary["fixed"] = {}
            warnings = noted_warnings(folder)
            if isinstance(study.objective, NetworkObjective):
                warnings += warnings_of(study.objective, {"tuned": summary["tuned"], HELD: summary["fixed"]})
            summary = {**summary, "warnings": warnings}
            write_summary(folder, summary)
    return summary


def _compared(study: Study, folder: Path, console: Console, runner: Runner, summary: Summary) -> Summary:
    """The same measures with the start values held."""
    if isinstance(study.objective, SmoothObjective):
        return {"fixed": solved_at_start(study, read_trajectory(folder))}
    steps = summary["training_steps"]
    display = Display(console, f"{study.study}, {HELD}", Budget(steps=steps))
    listener = Listeners([display, LostTrainers(folder, HELD)])
    start = study.space.constrain(study.space.start)
    factory = study.trainer_factory()
    assert isinstance(factory, TrainerFactory)
    apart = replace(factory, group_size=1, diagnostics=())  # a network of each group is enough
    reports = runner.run(constant(study, start, steps), apart, folder / COMPARISON, listener, study.networks)
    return _measures("fixed", reports, summary)


def _measures(row: Literal["tuned", "fixed"], reports: dict[int, Report], summary: Summary) -> Summary:
    """A row of the comparison, and over how many networks, with which spread."""
    measures: Summary = {
        "networks": {**summary.get("networks", {}), row: len(reports)},
        "spread": {**summary.get("spread", {}), row: spread_metrics(reports)},
    }
    measures[row] = mean_metrics(reports)
    return measures


def _tuned(study: Study, folder: Path, reports: dict[int, Report], summary: Summary) -> Summary:
    """Keeps what tuning gave, before anything else can go wrong."""
    if isinstance(study.objective, SmoothObjective):
        summary = {**summary, **summarised(study, folder, reports, read_trajectory(folder))}
        write_summary(folder, summary)
        return summary
    first = reports[min(reports)]
    save_network(folder, TUNED, network_of(study.objective, study.regularizers, first))
    trajectory = read_trajectory(folder)
    build = partial(network_from, study.objective, study.regularizers)
    measured = values_of(study.metric, trajectory)
    best = best_network(
        reports,
        best_row(
            study.metric, study.mode, trajectory.hyper_step, trajectory.training_step, measured, trajectory.values
        ),
        study.space.names,
        build,
    )
    start = study.space.constrain(study.space.start).tolist()
    end = trajectory.values[-1].tolist() if len(trajectory) else start
    steps = int(first.metrics["training_step"])
    if len(trajectory):
        Schedule.of_run(study.space, trajectory.training_step, trajectory.values, steps).save(folder / SCHEDULE)
    summary = {
        **summary,
        "training_steps": steps,
        "seconds": float(trajectory.seconds[-1]) if len(trajectory) else 0.0,
        "hyperparameters": [
            HyperparameterSummary(name=name, start=a, end=b)
            for name, a, b in zip(study.space.names, start, end, strict=True)
        ],
        **_measures("tuned", reports, summary),
    }
    if best is not None:
        save_network(folder, BEST, best.network)
        summary["best"] = summary_of(best)
    if first.message:
        summary["remark"] = first.message
    write_summary(folder, summary)
    return summary
