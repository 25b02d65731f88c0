"""Running a sweep: trials on Ray, the winner measured, a report, and a folder that says it all."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import cast

from rich.console import Console

from selftune.search import TrialRecord
from selftune.search.trial_record import TrialsListeners
from selftune.storage.files import replacing
from selftune.studies.display import say
from selftune.studies.driver import Driver, DriverSettings
from selftune.studies.folder import STUDY_FILE, WINNER
from selftune.studies.original_study import check_unchanged
from selftune.studies.recorded_run import recorded_run
from selftune.studies.runner import Runner
from selftune.studies.saved_network import TUNED, save_network
from selftune.studies.study_failed import StudyFailed
from selftune.sweeps.display import SweepDisplay
from selftune.sweeps.status_writer import SweepStatusWriter
from selftune.sweeps.sweep_file import load_sweep
from selftune.sweeps.swept_study import SweptStudy
from selftune.sweeps.trial_planner import TrialPlanner
from selftune.sweeps.trials_log import TrialsLog
from selftune.tracking.summary import Summary, read_summary
from selftune.tracking.sweep_report import write_sweep_report
from selftune.tracking.trials import Trials
from selftune.tracking.trials_file import TrialsWriter, read_trials


def run_sweep(
    swept: SweptStudy,
    folder: Path,
    console: Console,
    *,
    mlflow: bool = True,
    driving: DriverSettings | None = None,
    within: Driver | None = None,
) -> Summary:
    """Runs the sweep of a folder to its end, from the start or from where it was stopped.

    Args:
        folder: made by ``new_folder``, holding the study file.
        console: where progress is shown.
        mlflow: whether a process beside this one sends the sweep to MLflow.
        driving, within: settings and surroundings of the ``Driver``.

    Returns:
        What ``summary.json`` holds.

    Raises:
        StudyFailed: one sentence, if no trial has anything to show.
        Stopped: after a request, or SIGTERM; the folder can be resumed.
        KeyboardInterrupt: after SIGINT; the folder can be resumed.
        UserError: if another process runs the sweep of this folder.
    """
    begins: Summary = {"kind": "sweep", "name": swept.study.study}
    with recorded_run(
        folder, begins, swept.text, console, local=False, mlflow=mlflow, driving=driving, within=within
    ) as recorded:
        if "winner" not in recorded.summary:
            _search(swept, folder, console, recorded.driver)
            found = _measured(swept, folder, read_trials(folder))
            recorded.keep({**recorded.summary, **found})
        write_sweep_report(folder, {**recorded.summary, "status": "finished"})
    return recorded.summary


def open_sweep(folder: Path) -> tuple[SweptStudy, Summary]:
    """The sweep of an output folder and how far it got.

    Raises:
        UserError: if its study file is not valid any more, or was edited.
        DamagedFile: if a file is not what was written.
    """
    swept = load_sweep(folder / STUDY_FILE)
    check_unchanged(folder, swept.text, tuned=True)
    return swept, read_summary(folder)


def _search(swept: SweptStudy, folder: Path, console: Console, driver: Driver) -> None:
    from selftune.schedulers.cluster import is_connected
    from selftune.schedulers.errors import SchedulerError
    from selftune.schedulers.sweep import run_trials_on_ray, sweep_trial

    study = swept.study
    assert study.budget.steps is not None
    display = SweepDisplay(console, study.study, swept.settings, study.budget.steps)
    status = SweepStatusWriter(folder, study.study, swept.settings, study.budget.steps)
    listener = TrialsListeners([TrialsWriter(folder, swept.space, swept.settings), TrialsLog(), display, status])
    runner = Runner(study, local=False)
    if not is_connected():  # as within a comparison
        say(console, "starting Ray")
    with runner.ready(), driver.finishing():
        try:
            run_trials_on_ray(
                sweep_trial(TrialPlanner(swept.content), swept.settings, driver.worker_log(study.study)),
                check=swept.refusal,
                space=swept.space,
                settings=swept.settings,
                members=study.trainers.number,
                cpus=study.trainers.cpus,
                gpus=study.trainers.gpus_each,
                trial_steps=study.budget.steps,
                folder=folder,
                listener=listener,
                say=partial(say, console),
                resume=True,
                stop=driver.asked,
                study=study.study,
                hang_after=study.trainers.hang_after,
                workers=study.trainers.workers,
            )
        except SchedulerError as error:
            raise StudyFailed(str(error)) from error


def _measured(swept: SweptStudy, folder: Path, trials: Trials) -> Summary:
    """The winner, its network and measures, and what the sweep took.

    Raises:
        StudyFailed: if there is no winner.
    """
    winner = trials.winner
    if winner is None:
        reasons = {one.message for one in trials.last.values() if one.message}
        why = f": {min(reasons)}" if reasons else ""
        raise StudyFailed(f"none of {len(trials.last)} trials reported {swept.settings.metric}{why}")
    measures = _keep_winner(swept, folder, winner)
    return {
        "winner": {
            "number": winner.number,
            "values": dict(winner.values),
            "training_step": winner.best_step or winner.training_step,
            "value": cast(float, winner.best),
        },
        "measures": measures,
        "trials": trials.counts,
        "spent": trials.spent,
        "seconds": sum(one.seconds for one in trials.last.values()),
    }


def _keep_winner(swept: SweptStudy, folder: Path, winner: TrialRecord) -> dict[str, float]:
    """Keeps the winner's best network and its study file; the network's measures over whole splits."""
    from selftune.schedulers.sweep import best_network

    study = swept.sample(winner.values)
    network = study.strategy.as_network(folder).built_of(best_network(folder, winner.number))
    save_network(folder, TUNED, network)
    with replacing(folder / WINNER) as temporary:
        temporary.write_text(study.text, encoding="utf-8")
    return study.strategy.as_network(folder).trainers()(0).evaluated(network)
