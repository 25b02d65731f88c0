"""The output folder of a comparison: made, refused, opened again."""

from __future__ import annotations

from pathlib import Path

from selftune.errors import SettingError
from selftune.studies.folder import RUNS, empty_folder, free_folder
from selftune.studies.mistakes import Mistakes, UserError
from selftune.sweeps.comparison.comparison import Comparison, comparison_of
from selftune.sweeps.comparison.record import FILE, ComparisonRecord, is_comparison, read_record


def new_comparison_folder(comparison: Comparison, output: Path | None) -> Path:
    """Makes the folder of a comparison: ``output``, or ``runs/compare-<study>-<n>`` with a free n.

    Raises:
        UserError: if ``output`` holds something already, or cannot be written; nothing is changed then.
    """
    try:
        folder = free_folder(f"compare-{comparison.study.study}") if output is None else _empty_folder(output)
        start_record(comparison).write(folder)
    except OSError as error:
        place = error.filename or output or RUNS
        raise UserError(
            f"{place}: cannot be written: {(error.strerror or str(error)).lower()};"
            " choose another folder with --output"
        ) from error
    return folder


def holds(folder: Path, comparison: Comparison) -> bool:
    """Whether a folder holds a comparison that was begun: this one.

    Raises:
        UserError: if it holds another one.
        DamagedFile: if ``comparison.json`` is not what was written.
    """
    if not is_comparison(folder):
        return False
    record = read_record(folder)
    if (record.text, record.settings) != (comparison.study.text, comparison.settings):
        raise UserError(f"{folder}: holds another comparison; choose another folder with --output")
    return True


def start_record(comparison: Comparison) -> ComparisonRecord:
    """The record of a comparison of which nothing has run yet."""
    study = comparison.study
    return ComparisonRecord(study.text, comparison.settings, study.study, study.metric, study.mode)


def _empty_folder(folder: Path) -> Path:
    if is_comparison(folder):
        raise UserError(
            f"{folder}: holds a comparison; go on with it with `selftune resume {folder}`, or choose another"
            " folder with --output"
        )
    return empty_folder(folder, "comparison")


def open_comparison(folder: Path) -> Comparison:
    """The comparison of an output folder.

    Raises:
        UserError: if its study is not valid any more.
        DamagedFile: if ``comparison.json`` is not what was written.
    """
    record = read_record(folder)
    try:
        return comparison_of(record.text, record.settings)
    except Mistakes as error:
        raise error.in_file(str(folder / FILE)) from error
    except SettingError as error:
        raise UserError(f"{folder / FILE}: {error}") from error
