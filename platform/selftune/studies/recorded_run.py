"""A run that its folder tells of at any time: held by one process, with a summary, sent to MLflow meanwhile."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from selftune.errors import Stopped
from selftune.logs import driver_log
from selftune.storage.files import remove_leftovers
from selftune.studies.driver import Driver, DriverSettings, held
from selftune.studies.mlflow_process import MlflowProcess
from selftune.studies.original_study import write_original
from selftune.tracking.summary import Summary, read_summary, write_summary

logger = logging.getLogger(__name__)


@dataclass
class RecordedRun:
    """What a run has to say so far; it is written down with ``keep``."""

    folder: Path
    summary: Summary
    driver: Driver

    def keep(self, summary: Summary) -> None:
        """Writes the summary down, so that a run that is resumed finds it."""
        self.summary = summary
        write_summary(self.folder, summary)


@contextmanager
def recorded_run(
    folder: Path,
    begins: Summary,
    text: str,
    console: Console,
    *,
    local: bool,
    mlflow: bool,
    driving: DriverSettings | None = None,
    within: Driver | None = None,
) -> Iterator[RecordedRun]:
    """Within it a study of a folder runs, from the start or from where it was stopped.

    ``summary.json`` says at any time whether it is running, finished, failed, stopped or interrupted; the last
    file to be written, it is so at the end.

    Args:
        begins: what the summary says from the beginning.
        text: the study file, as it is now.
        console: where it is said what MLflow did not get.
        local: whether the study runs in this process instead of on Ray.
        mlflow: whether a process beside this one sends the folder to MLflow.
        driving, within: settings and surroundings of the ``Driver``.

    Raises:
        UserError: if another process runs the study of this folder.
    """
    with (
        held(folder, driving, within) as driver,
        driver_log(folder, driver.settings.log_level, study=begins["name"]),
    ):
        remove_leftovers(folder)
        write_original(folder, text, local)  # a larger budget counts from now on
        summary: Summary = {**begins, **read_summary(folder), "status": "running"}
        summary.pop("message", None)
        run = RecordedRun(folder, summary, driver)
        run.keep(summary)
        logger.info("begins, or goes on, in process %d; the folder is %s", os.getpid(), folder)
        sender = MlflowProcess(folder) if mlflow else None
        status = "failed"
        try:
            yield run
            status = "finished"
        except Stopped:
            status = "stopped"
            raise
        except KeyboardInterrupt:
            status = "interrupted"
            raise
        finally:  # a bug leaves its traceback, and still a folder that says "failed"
            if status != "finished":
                run.summary = {**read_summary(folder)}
            if status not in ("finished", "stopped"):
                run.summary["message"] = f"{sys.exc_info()[1]}"
            run.keep({**run.summary, "status": status})
            logger.info("%s", status)
            if sender is not None:
                sender.finish(console, patient=status == "finished")
