"""Running a study: tune, compare with fixed hyperparameters, report, and leave a folder that says it all."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import cast

from rich.console import Console

from selftune.listener import Listeners
from selftune.lower_level.smooth_objective import LowerLevelError
from selftune.storage.files import remove_leftovers
from selftune.studies.display import say
from selftune.studies.folder import held
from selftune.studies.metric import metric_of
from selftune.studies.mlflow_process import MlflowProcess
from selftune.studies.original_study import write_original
from selftune.studies.runner import Runner, StudyFailed
from selftune.studies.study import Study
from selftune.studies.verdict import HELD, LostTrainers, noted_warnings
from selftune.tracking.report import write_report
from selftune.tracking.summary import Summary, read_summary, write_summary
from selftune.tracking.trajectory import TrajectoryWriter


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
        write_original(folder, study.text, local)  # a larger budget counts from now on
        summary = cast(Summary, {"name": study.study, **read_summary(folder), "status": "running"})
        summary.pop("message", None)
        study.strategy.begin(folder, console)
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
    strategy = study.strategy
    if not runner.local:
        say(console, "starting Ray (`--local` does without)")
    with runner.ready():
        if "tuned" not in summary:
            display = strategy.display(console, study.study, study.budget)
            listener = Listeners([TrajectoryWriter(folder), display, LostTrainers(folder, "tuned")])
            reports = runner.run(strategy.method, strategy.trainers(), folder, listener)
            summary = strategy.keep(folder, reports, {**summary, "warnings": noted_warnings(folder)})
            write_summary(folder, summary)  # before anything else can go wrong
            metric = metric_of(study.metric, study.mode, folder, summary["tuned"])
            if metric is not None:
                summary = {**summary, "metric": metric}
                write_summary(folder, summary)
        if "fixed" not in summary:
            try:
                summary = {**summary, **strategy.compared(folder, console, runner, summary)}
            except (StudyFailed, LowerLevelError) as error:  # what tuning gave is there all the same
                say(console, f"no comparison: with the {HELD}, {error}")
                summary["fixed"] = {}
            measured = {"tuned": summary["tuned"], HELD: summary["fixed"]}
            found = strategy.warnings({HELD: summary["tuned"]} if summary.get("held") else measured)
            summary = {**summary, "warnings": noted_warnings(folder) + found}
            write_summary(folder, summary)
    return summary
