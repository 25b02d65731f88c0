"""The command ``selftune compare``: methods on one study, or studies that have ended."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from selftune.command_arguments import add_driving, add_restart, check_restart, driving, place, positive

if TYPE_CHECKING:
    from selftune.sweeps.comparison.comparison import Comparison

# Everything heavy is imported by the command that needs it, so that --help and mistakes come at once.

_WITH_METHODS = (
    "seeds",
    "budget",
    "starts",
    "concurrent",
    "seed",
    "steps",
    "output",
    "restart",
    "grace",
    "log_level",
)
"""Options that mean something only together with ``--methods``."""


def add_compare_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds what the command takes."""
    parser.add_argument(
        "places",
        nargs="+",
        metavar="STUDY|DIR",
        help="with --methods a study file, or the name of a packaged study; else output folders of studies",
    )
    parser.add_argument(
        "--methods",
        type=_names,
        metavar="NAMES",
        help="tune the study by each of these methods, such as held,random,tpe,asha,pbt,self_tuning",
    )
    parser.add_argument("--seeds", type=positive, metavar="N", help="seeds of each method (default: 3)")
    parser.add_argument(
        "--budget",
        type=_budget,
        metavar="N|Ns",
        help="of each method and seed: training steps of all networks, such as 24000, or seconds, such as 600s",
    )
    parser.add_argument(
        "--starts",
        type=positive,
        metavar="N",
        help="methods that tune online, and single trials of random search, from the same N random starts, too",
    )
    parser.add_argument(
        "--concurrent", type=positive, metavar="N", help="trials at a time (default: as many as fit)"
    )
    parser.add_argument("--seed", type=int, metavar="N", help="replaces the file's seed, the first one")
    parser.add_argument("--steps", type=int, metavar="N", help="replaces the file's budget: steps of a trial")
    parser.add_argument(
        "--output", type=place, metavar="DIR", help="folder for the results (default: runs/compare-<study>-<n>)"
    )
    add_restart(parser)
    parser.add_argument("--no-mlflow", action="store_true", help="send nothing to MLflow")
    add_driving(parser)


def _names(text: str) -> tuple[str, ...]:
    return tuple(name for name in (part.strip() for part in text.split(",")) if name)


def _budget(text: str) -> dict[str, Any]:
    number, kind = (text[:-1], float) if text.endswith("s") else (text, int)
    try:
        return {"seconds": kind(number)} if kind is float else {"steps": kind(number)}
    except ValueError as error:
        raise argparse.ArgumentTypeError(
            f"must be training steps, such as 24000, or seconds, such as 600s; got {text!r}"
        ) from error


def compare(options: argparse.Namespace) -> int:
    """Compares methods on a study, or ranks studies that have ended."""
    if options.methods is None:
        return _rank(options)
    check_restart(options)
    comparison = _comparison(options)
    from selftune.sweeps.comparison.folder import holds, new_comparison_folder

    if options.restart and holds(options.output, comparison):
        return resume_comparison(options.output, options)
    return _run(comparison, new_comparison_folder(comparison, options.output), options)


def _rank(options: argparse.Namespace) -> int:
    from rich.console import Console

    from selftune.studies.mistakes import UserError
    from selftune.studies.ranking import ranked
    from selftune.studies.results import print_ranking

    given = [name for name in _WITH_METHODS if getattr(options, name) not in (None, False)]
    given += ["no_mlflow"] if options.no_mlflow else []
    if given:
        name = given[0].replace("_", "-")
        raise UserError(f"--{name}: is for the comparison of methods on a study; name them with --methods")
    print_ranking(Console(), ranked([Path(one) for one in options.places]))
    return 0


def _comparison(options: argparse.Namespace) -> Comparison:
    from selftune.errors import SettingError
    from selftune.studies.mistakes import Mistakes, UserError
    from selftune.studies.packaged import find_study
    from selftune.studies.yaml_file import check_yaml, read_text

    if len(options.places) > 1:
        raise UserError(f"{options.places[1]}: with --methods one study is compared; give a single one")
    given = Path(options.places[0])
    if given.is_dir():
        raise UserError(
            f"{given}: is a folder; with --methods give a study file, or the name of a packaged study, and leave"
            " --methods out to rank folders"
        )
    if options.budget is None:
        raise UserError("--budget: is missing; give training steps, such as 24000, or seconds, such as 600s")
    path = find_study(options.places[0])
    check_yaml(path)  # before torch is imported
    from selftune.sweeps.comparison.comparison import comparison_of
    from selftune.sweeps.comparison.comparison_settings import ComparisonSettings

    try:
        settings = ComparisonSettings(
            methods=options.methods,
            seeds=options.seeds or 3,
            starts=options.starts or 0,
            concurrent=options.concurrent,
            **options.budget,
        )
        comparison = comparison_of(read_text(path), settings, options.seed, options.steps)
        _check_machine(comparison)
    except Mistakes as error:
        raise error.in_file(str(path)) from error
    except SettingError as error:
        option = "budget" if error.key in ("steps", "seconds") else error.key
        raise UserError(f"--{option}: {error.message}") from error
    return comparison


def _check_machine(comparison: Comparison) -> None:
    """Refuses what this machine has no room for.

    Raises:
        Mistakes: keys are those of a study file.
    """
    import os

    from selftune.studies.machine import check_device, check_room

    if "RAY_ADDRESS" in os.environ:  # a cluster elsewhere may have GPUs, and more room
        return
    for cell in comparison.cells[: len(comparison.methods)]:
        check_device(cell.swept.study)
        check_room(cell.swept.study)


def resume_comparison(folder: Path, options: argparse.Namespace) -> int:
    """Goes on with the comparison of a folder."""
    from selftune.sweeps.comparison.folder import open_comparison

    return _run(open_comparison(folder), folder, options)


def report_comparison(options: argparse.Namespace) -> int:
    """Shows the comparison of a folder as far as it is, and writes its tables and its picture anew."""
    from rich.console import Console

    from selftune.sweeps.comparison.folder import open_comparison
    from selftune.sweeps.comparison.record import read_record
    from selftune.sweeps.comparison.shown import print_comparison, write_comparison

    folder: Path = options.folder
    comparison, record = open_comparison(folder), read_record(folder)
    write_comparison(folder, comparison, record)
    print_comparison(Console(), comparison, record, folder)
    return 0


def _run(comparison: Comparison, folder: Path, options: argparse.Namespace) -> int:
    """Runs what of a comparison has not ended, and shows it."""
    from rich.console import Console

    from selftune.studies.carried_out import carried_out
    from selftune.sweeps.comparison.run import run_comparison
    from selftune.sweeps.comparison.shown import print_comparison

    console = Console()
    mlflow = not options.no_mlflow
    record = carried_out(folder, lambda: run_comparison(comparison, folder, console, mlflow, driving(options)))
    if record is None:
        return 1
    print_comparison(console, comparison, record, folder)
    return 1 if record.failures else 0
