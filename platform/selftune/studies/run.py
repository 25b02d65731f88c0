"""Running a study: tune, compare with fixed hyperparameters, report, and leave a folder that says it all."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console

from selftune.listener import Listeners
from selftune.lower_level.smooth_objective import LowerLevelError
from selftune.studies.display import say
from selftune.studies.driver import DriverSettings
from selftune.studies.metric import metric_of
from selftune.studies.recorded_run import RecordedRun, recorded_run
from selftune.studies.runner import Runner
from selftune.studies.study import Study
from selftune.studies.study_failed import StudyFailed
from selftune.studies.verdict import HELD, TrainerFaults, noted_warnings
from selftune.tracking.report import write_report
from selftune.tracking.summary import Summary
from selftune.tracking.trajectory import TrajectoryWriter


def run(
    study: Study,
    folder: Path,
    console: Console,
    *,
    local: bool,
    mlflow: bool = True,
    driving: DriverSettings | None = None,
) -> Summary:
    """Runs the study of a folder to its end, from the start or from where it was stopped.

    The folder gets everything while it goes: trajectory, checkpoints, then network, comparison and report;
    ``summary.json`` says at any time whether the study is running, finished, failed, stopped or interrupted.

    Args:
        folder: made by ``new_folder``, holding the study file.
        console: where progress is shown.
        local: run in-process instead of on Ray.
        mlflow: whether a process beside this one sends the study to MLflow.
        driving: how this process answers, and what it logs.

    Raises:
        StudyFailed: one sentence, if no trainer gets to the end.
        Stopped: after a request, or SIGTERM; the folder can be resumed.
        KeyboardInterrupt: after SIGINT; the folder can be resumed.
        UserError: if another process runs the study of this folder.
    """
    begins: Summary = {"name": study.study}
    with recorded_run(
        folder, begins, study.text, console, local=local, mlflow=mlflow, driving=driving
    ) as recorded:
        study.strategy.begin(folder, console)
        _phases(study, folder, console, Runner(study, local, recorded.driver), recorded)
        write_report(folder, {**recorded.summary, "status": "finished"})
    return recorded.summary


def _phases(study: Study, folder: Path, console: Console, runner: Runner, recorded: RecordedRun) -> None:
    strategy, summary = study.strategy, recorded.summary
    if not runner.local:
        say(console, "starting Ray (`--local` does without)")
    with runner.ready():
        if "tuned" not in summary:
            display = strategy.display(console, study.study, study.budget)
            listener = Listeners([TrajectoryWriter(folder), display, TrainerFaults(folder, "tuned")])
            reports = runner.run(
                strategy.method, strategy.trainers(), folder, listener, phase="tuning", budget=study.budget
            )
            summary = strategy.keep(folder, reports, {**summary, "warnings": noted_warnings(folder)})
            recorded.keep(summary)  # before anything else can go wrong
            metric = metric_of(study.metric, study.mode, folder, summary["tuned"])
            if metric is not None:
                summary = {**summary, "metric": metric}
                recorded.keep(summary)
        if "fixed" not in summary:
            try:
                summary = {**summary, **strategy.compared(folder, console, runner, summary)}
            except (StudyFailed, LowerLevelError) as error:  # what tuning gave is there all the same
                say(console, f"no comparison: with the {HELD}, {error}")
                summary["fixed"] = {}
            measured = {"tuned": summary["tuned"], HELD: summary["fixed"]}
            found = strategy.warnings({HELD: summary["tuned"]} if summary.get("held") else measured)
            summary = {**summary, "warnings": noted_warnings(folder) + found}
            recorded.keep(summary)
        if study.horizon is not None and "horizon" not in summary:
            summary = {**summary, **strategy.looked_back(folder, console, runner, summary)}
            warned = [summary["horizon"]["sentence"]] if summary["horizon"].get("held_is_better") else []
            recorded.keep({**summary, "warnings": [*noted_warnings(folder), *warned]})
