"""Running a comparison: its sweeps one after the other, each in its own folder; finished ones are skipped."""

from __future__ import annotations

import time
from pathlib import Path

from rich.console import Console

from selftune.logs import driver_log
from selftune.storage.files import remove_leftovers, replacing
from selftune.studies.display import say
from selftune.studies.driver import Driver, DriverSettings, held
from selftune.studies.folder import STUDY_FILE
from selftune.studies.progress import seconds_left
from selftune.studies.runner import Runner
from selftune.studies.status import Status, write_status
from selftune.studies.study_failed import StudyFailed
from selftune.sweeps.comparison.comparison import Cell, Comparison
from selftune.sweeps.comparison.measured import outcome_of
from selftune.sweeps.comparison.record import ComparisonRecord, read_record
from selftune.sweeps.comparison.shown import write_comparison
from selftune.sweeps.run import run_sweep


def run_comparison(
    comparison: Comparison,
    folder: Path,
    console: Console,
    mlflow: bool = True,
    driving: DriverSettings | None = None,
) -> ComparisonRecord:
    """Runs what of a comparison has not ended yet, and leaves tables, a picture and all numbers in its folder.

    Args:
        comparison: as ``open_comparison`` gives it.
        folder: made by ``new_comparison_folder``.
        console: where progress is shown.
        mlflow: whether sweeps are sent to MLflow.
        driving: how this process answers, and what it logs.

    Raises:
        StudyFailed: if there is no cluster to run on. A sweep that fails is noted, and the others go on.
        Stopped: after a request, or SIGTERM; the folder can be resumed.
        KeyboardInterrupt: after SIGINT; the folder can be resumed.
        UserError: if another process runs the comparison of this folder.
    """
    with (
        held(folder, driving) as driver,
        driver_log(folder, driver.settings.log_level, study=comparison.study.study),
    ):
        remove_leftovers(folder)
        record = read_record(folder)
        waiting = [cell for cell in comparison.cells if cell.name not in record.outcomes]
        if waiting:
            for note in comparison.notes:
                say(console, note)
            with Runner(comparison.study, local=False).ready():
                began = time.monotonic(), len(record.outcomes) / len(comparison.cells)
                for cell in waiting:
                    _write_status(folder, comparison, record, cell.name, began)
                    number = comparison.cells.index(cell) + 1
                    say(console, f"{cell.name}, sweep {number} of {len(comparison.cells)}", style="bold")
                    record = _ran(cell, folder, console, mlflow, record, driver)
                    record.write(folder)
                    write_comparison(folder, comparison, record)
            _write_status(folder, comparison, record)
        write_comparison(folder, comparison, record)
    return record


def _write_status(
    folder: Path,
    comparison: Comparison,
    record: ComparisonRecord,
    part: str = "",
    began: tuple[float, float] | None = None,
) -> None:
    """Says how many sweeps have ended, and which one runs; how far that is, it says itself."""
    ended, total = len(record.outcomes), len(comparison.cells)
    share = ended / total
    status = Status(
        record.name,
        "comparison",
        progress=f"{ended}/{total} sweeps",
        share=share,
        seconds_left=None if began is None else seconds_left(began, (time.monotonic(), share)),
        trials={"finished": ended, "failed": len(record.failures)},
        part=part,
    )
    write_status(folder, status)


def _ran(
    cell: Cell, folder: Path, console: Console, mlflow: bool, record: ComparisonRecord, driver: Driver
) -> ComparisonRecord:
    place = folder / cell.name
    try:
        _prepare(place, cell)
        run_sweep(cell.swept, place, console, mlflow=mlflow, driving=driver.settings, within=driver)
        return record.with_outcome(cell.name, outcome_of(cell.swept, place, cell.by_start))
    except StudyFailed as error:
        say(console, f"{cell.name}: {error}")
        return record.with_failure(cell.name, str(error))


def _prepare(place: Path, cell: Cell) -> None:
    """Makes the folder of a sweep, if it is not there."""
    place.mkdir(exist_ok=True)
    with replacing(place / STUDY_FILE) as temporary:
        temporary.write_text(cell.text, encoding="utf-8")
