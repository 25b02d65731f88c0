"""What the commands ``run``, ``check``, ``resume`` and ``report`` do with a study that is swept."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from selftune.command_arguments import driving

if TYPE_CHECKING:
    import argparse

    from selftune.sweeps.swept_study import SweptStudy

# Everything heavy is imported by the command that needs it, so that --help and mistakes come at once.


def has_sweep(path: Path) -> bool:
    """Whether a study file has a section ``sweep``.

    Raises:
        UserError: if it cannot be read.
    """
    from selftune.studies.mistakes import Mistakes
    from selftune.studies.yaml_file import parse_yaml, read_text

    try:
        return "sweep" in parse_yaml(read_text(path))
    except Mistakes as error:
        raise error.in_file(str(path)) from error


def run_file(path: Path, options: argparse.Namespace) -> int:
    """Runs a sweep from its start, or goes on with it where ``--restart`` says so and it was begun.

    Raises:
        UserError: if something in the request is wrong.
    """
    from selftune.studies.mistakes import UserError

    if options.local:
        raise UserError(f"{path}: a sweep runs on Ray, which starts by itself on this machine; leave out --local")
    from selftune.studies.folder import goes_on, new_folder

    swept = _load(path, options)
    if options.restart and goes_on(options.output, swept.text, path, local=False):
        return resume_folder(options.output, options)
    folder = new_folder(swept.study, options.output, local=False)
    return _go(swept, folder, options)


def check_file(path: Path, options: argparse.Namespace) -> int:
    """Says what a sweep would do.

    Raises:
        UserError: one line per mistake.
    """
    swept = _load(path, options)
    settings, space = swept.settings, swept.space
    keys = f"{len(space)} key{'s' if len(space) > 1 else ''}"
    limits = [f"{settings.trials} trials"] if settings.trials is not None else []
    limits += [f"{settings.steps:,} training steps in all"] if settings.steps is not None else []
    limits += [f"{settings.seconds:g} seconds"] if settings.seconds is not None else []
    print(f"{path}: right; it sweeps {keys} over {' or '.join(limits)}:")
    for one in space:
        only = [f"{key} is {' or '.join(map(str, options))}" for key, options in one.when.items()]
        condition = f", only where {' and '.join(only)}" if only else ""
        print(f"  {one.key}: {one.distribution.describe()}{condition}")
    tuned = [h.name for h in swept.study.space.tuned]
    inside = f"and tunes {', '.join(tuned)} by {swept.study.method_name}" if tuned else "with nothing tuned"
    members = swept.study.trainers.number
    networks = "one network" if members == 1 else f"{members} networks"
    print(f"each trial trains {networks} for {swept.study.budget.steps:,} steps {inside}")
    return 0


def resume_folder(folder: Path, options: argparse.Namespace) -> int:
    """Goes on with a sweep that was stopped.

    Raises:
        UserError: if the folder holds no sweep, or an edited one.
    """
    from selftune.sweeps.run import open_sweep

    swept, summary = open_sweep(folder)
    if summary.get("status") == "finished":
        from selftune.studies.mistakes import called

        print(called(f"{folder}: is finished, there is nothing to resume; see {folder / 'report.html'}"))
        return 0
    return _go(swept, folder, options)


def _load(path: Path, options: argparse.Namespace) -> SweptStudy:
    import os

    from selftune.studies.machine import check_device, check_room
    from selftune.studies.mistakes import Mistakes
    from selftune.sweeps.sweep_file import load_sweep

    swept = load_sweep(path, options.seed, options.steps)
    if "RAY_ADDRESS" not in os.environ:  # a cluster elsewhere may have GPUs, and more room
        try:
            check_device(swept.study)
            check_room(swept.study)
        except Mistakes as error:
            raise error.in_file(str(path)) from error
    return swept


def _go(swept: SweptStudy, folder: Path, options: argparse.Namespace) -> int:
    from rich.console import Console

    from selftune.studies.carried_out import carried_out
    from selftune.sweeps.results import print_sweep
    from selftune.sweeps.run import run_sweep

    console, mlflow = Console(), not options.no_mlflow
    summary = carried_out(
        folder, lambda: run_sweep(swept, folder, console, mlflow=mlflow, driving=driving(options))
    )
    if summary is None:
        return 1
    print_sweep(console, summary, folder, mlflow)
    return 0
