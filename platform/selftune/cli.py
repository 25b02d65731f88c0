"""The command ``selftune``: runs studies, sweeps and comparisons, and all that is done with what they leave."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from selftune.command_arguments import add_driving, add_restart, check_restart, driving, place, positive
from selftune.compare_command import add_compare_arguments, compare, report_comparison, resume_comparison
from selftune.data_command import add_data_commands, show_data
from selftune.operations_command import add_status_arguments, add_stop_arguments, status, stop
from selftune.remote_command import with_folders
from selftune.render_command import add_render_arguments, render_study
from selftune.submit_command import (
    add_job,
    add_submit_arguments,
    add_to,
    fetch,
    logs,
    submit,
)
from selftune.sweep_command import check_file, has_sweep, resume_folder, run_file

if TYPE_CHECKING:
    from rich.console import Console

    from selftune.studies.study import Study

# Everything heavy is imported by the command that needs it, so that --help and mistakes come at once.

_DESCRIPTION = """\
Tunes regularization while the network trains.

A study file (YAML) says what is trained, which regularizers act and which of their hyperparameters are
tuned. `selftune run` trains, tunes, compares with the start values held fixed, and leaves a folder with the
trajectory, the trained network and a report."""

_EXAMPLES = """\
examples:
  selftune run digits                 a packaged study, on Ray, on this machine
  selftune run my_study.yaml --local  a study of your own, in this process, without Ray
  selftune check my_study.yaml        is the file right? nothing is run or written
  selftune run my_sweep.yaml          a study whose section `sweep` says what is searched over
  selftune status runs/digits-1       how far is it? from another terminal
  selftune stop runs/digits-1         finish the hyper-step, save, end
  selftune resume runs/digits-1       go on after a stop or a crash
  selftune run my_study.yaml --output DIR --restart
                                      begin, or go on with what DIR holds: for jobs that start again
  selftune submit my_study.yaml --address http://head:8265 --output s3://bucket/my-study
                                      the same on a Ray cluster elsewhere
  selftune compare digits --methods random,asha,self_tuning --budget 24000
                                      which way of tuning is best at the same budget?
  selftune replay runs/digits-1       train again with the schedule that was found
  selftune schedule runs/digits-* --stretch 60000 --output long.json
                                      the mean of several schedules, ten times as long

Exit status: 0 done, or stopped with `selftune stop`, 1 the study failed, 2 something in the request is
wrong, 130 stopped with Ctrl-C, 143 with SIGTERM."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line and returns its exit status."""
    parser = _parser()
    try:
        options = parser.parse_args(arguments)
    except SystemExit as refusal:  # argparse has said why
        return refusal.code if isinstance(refusal.code, int) else 2
    from selftune.errors import Stopped
    from selftune.studies.mistakes import naming
    from selftune.studies.stopping import Interrupted, stoppable

    with stoppable() as interruption, naming():
        try:
            return _executed(options)
        except Stopped as stopped:
            _complain(f"selftune: {stopped}")
            return stopped.status
        except KeyboardInterrupt as error:
            _complain(f"selftune: stopped; {error}" if isinstance(error, Interrupted) else "selftune: stopped")
            return interruption.status


def _executed(options: argparse.Namespace) -> int:
    command: Callable[[argparse.Namespace], int] = options.command
    from selftune.errors import JobError, SettingError
    from selftune.storage.files import DamagedFile
    from selftune.storage.working_copy import UploadFailed
    from selftune.studies.mistakes import UserError

    try:
        return with_folders(command, options)
    except UserError as error:
        for line in error.lines:
            _complain(line)
        return 2
    except (SettingError, DamagedFile) as error:
        _complain(str(error))
        return 2
    except (UploadFailed, JobError) as error:
        _complain(f"selftune: {error}")
        return 1
    except BrokenPipeError:  # the reader of our output has gone
        sys.stderr.close()
        return 1


def _complain(line: str) -> None:
    from selftune.studies.mistakes import printable

    with suppress(OSError):  # nobody may be there to read it
        print(printable(line), file=sys.stderr, flush=True)


def _parser() -> argparse.ArgumentParser:
    formatter = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(
        prog="selftune", description=_DESCRIPTION, epilog=_EXAMPLES, formatter_class=formatter
    )
    parser.add_argument("--version", action="version", version=f"selftune {version('selftune')}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)

    def add(name: str, command: Callable[[argparse.Namespace], int], words: str) -> argparse.ArgumentParser:
        added = commands.add_parser(name, help=words, description=f"{words[0].upper()}{words[1:]}.")
        added.set_defaults(command=command)
        return added

    one = add("run", _run, "run a study from its start")
    _add_study(one)
    one.add_argument("--local", action="store_true", help="run in this process instead of on Ray")
    one.add_argument(
        "--output", type=place, metavar="DIR", help="folder for the results (default: runs/<study>-<n>)"
    )
    add_restart(one)
    _add_mlflow(one)
    add_driving(one)

    one = add("submit", submit, "send a study to a Ray cluster that runs elsewhere, and follow it")
    _add_study(one)
    add_submit_arguments(one)
    _add_mlflow(one)
    one.set_defaults(looks=True)

    one = add("check", _check, "check a study file; nothing is run or written")
    _add_study(one)

    one = add("resume", _resume, "go on with a study that was stopped, to the same result")
    _add_folder(one)
    _add_mlflow(one)
    add_driving(one)

    words = "say how a study, sweep or comparison stands: progress, trainers, faults, time left"
    add_status_arguments(add("status", status, words))

    words = "ask a study, sweep or comparison that runs to stop; it can be resumed"
    add_stop_arguments(add("stop", stop, words))

    one = add("logs", logs, "print what a job of `selftune submit` has said")
    add_job(one)
    one.add_argument("--follow", action="store_true", help="go on until the job is over")

    one = add("fetch", fetch, "bring the results of a job of `selftune submit` here")
    add_job(one)
    add_to(one)

    one = add("replay", _replay, "train the plain network with the schedule that a study found")
    _add_folder(one)
    one.add_argument("--final", action="store_true", help="hold the schedule's last values instead")
    one.add_argument("--seeds", type=positive, default=1, metavar="N", help="average over N networks (default: 1)")
    one.add_argument(
        "--schedule", type=Path, metavar="FILE", help="follow this schedule instead; nothing is kept in the folder"
    )
    one.add_argument(
        "--share",
        type=float,
        default=1.0,
        metavar="S",
        help="train for this share of the steps, with the schedule compressed; nothing is kept (default: 1)",
    )
    one.add_argument(
        "--average",
        type=float,
        metavar="S",
        help="also follow the schedule up to this share of its end, and hold its mean from there",
    )
    words = "train each network by N workers of Ray Train, which share every batch"
    one.add_argument("--workers", type=positive, metavar="N", help=words)
    words = (
        "ddp: every worker has all weights (default); fsdp: each has a part of them and of the optimizer's state"
    )
    one.add_argument("--strategy", choices=("ddp", "fsdp"), default="ddp", help=words)

    one = add("schedule", _schedule, "make one schedule of those that studies found")
    one.add_argument(
        "sources",
        nargs="+",
        type=place,
        metavar="DIR|FILE",
        help="folders of studies, or files; several are averaged",
    )
    one.add_argument("--stretch", type=positive, metavar="N", help="first stretch each to N training steps")
    one.add_argument("--smooth", type=positive, metavar="N", help="then take means over N training steps")
    one.add_argument("--output", type=Path, metavar="FILE", required=True, help="where to write it")

    words = "tune a study by several methods at the same budget, or rank finished studies by their metric"
    add_compare_arguments(add("compare", compare, words))

    one = add("report", _report, "write a study's report: one HTML page")
    _add_folder(one)
    one.set_defaults(reads=True)

    one = add("render", render_study, "write the manifests of a study for Kubernetes")
    _add_study(one)
    add_render_arguments(one)

    one = add("sync", _sync, "send to MLflow what a study could not send while it ran")
    _add_folder(one)

    data = add("data", show_data, "turn images, text and tables into Parquet files, and say what they hold")
    add_data_commands(data)

    one = add("list", _list, "list what studies can name: regularizers, diagnostics, solvers, tasks, methods")
    one.add_argument(
        "group", nargs="?", metavar="GROUP", help="regularizers, diagnostics, solvers, tasks, methods"
    )
    one.add_argument("--family", metavar="NAME", help="only entries of this family")
    one.add_argument("--kind", metavar="NAME", help="only entries of this kind")
    one.add_argument("--needs", metavar="QUANTITY", help="only entries that need this of the objective")
    one.add_argument("--markdown", action="store_true", help="all of it as a page, docs/catalogue.md")

    one = add("show", _show, "say what an entry does, what it needs and how a study uses it")
    one.add_argument("name", metavar="NAME", help="an entry's name")
    return parser


def _add_study(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("study", metavar="FILE|NAME", help="a study file, or the name of a packaged study")
    parser.add_argument("--seed", type=int, metavar="N", help="replaces the file's seed")
    parser.add_argument("--steps", type=int, metavar="N", help="replaces the file's budget, in training steps")


def _add_folder(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", type=place, metavar="DIR", help="the output folder of a study")


def _add_mlflow(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--no-mlflow", action="store_true", help="send nothing to MLflow (`sync` can later)")


# Commands --------------------------------------------------------------------------------------------


def _run(options: argparse.Namespace) -> int:
    from selftune.studies.packaged import find_study

    check_restart(options)
    if has_sweep(path := find_study(options.study)):
        return run_file(path, options)
    from selftune.studies.folder import goes_on, new_folder

    study = _load(options, local=options.local)
    if options.restart and goes_on(options.output, study.text, path, options.local):
        return _resume_folder(options.output, options)
    folder = new_folder(study, options.output, options.local)
    return _go(study, folder, options.local, options)


def _check(options: argparse.Namespace) -> int:
    from selftune.studies.packaged import find_study

    if has_sweep(path := find_study(options.study)):
        return check_file(path, options)
    study = _load(options, local=False)
    from selftune.studies.rows import MAXIMUM_ROWS

    tuned = len(study.space)
    print(f"{options.study}: right; it tunes {tuned} hyperparameter{'s' if tuned > 1 else ''}:")
    for hyperparameter in study.space.tuned:
        if hyperparameter.size > MAXIMUM_ROWS:
            low, high = hyperparameter.tensor.min().item(), hyperparameter.tensor.max().item()
            starts = f"{low:.4g}" if low == high else f"{low:.4g} to {high:.4g}"
            domain = hyperparameter.domain.describe()
            print(f"  {hyperparameter.name} ({hyperparameter.size} parts) from {starts}, each {domain}")
            continue
        for name, start in zip(hyperparameter.names, hyperparameter.tensor.reshape(-1).tolist(), strict=True):
            print(f"  {name} from {start:.4g}, {hyperparameter.domain.describe()}")
    for title, lines in study.strategy.described():
        print(title)
        for line in lines:
            print(f"  {line}")
    return 0


def _list(options: argparse.Namespace) -> int:
    import shutil

    if options.markdown:
        from selftune.studies.catalogue import reference_page

        print(reference_page(), end="")
        return 0
    from selftune.studies.listing import counts
    from selftune.studies.listing_index import listing

    found = listing().chosen(options.group, options.family, options.kind, options.needs)
    width = shutil.get_terminal_size((115, 24)).columns
    longest = max((len(entry.name) for entry in found), default=0)
    group = None
    for entry in found:
        if entry.group != group:
            group = entry.group
            print(f"{group}:")
        print(f"  {entry.line(width - 2, longest)}")
    print()
    for line in counts(found) or ["nothing fits"]:
        print(line)
    return 0


def _show(options: argparse.Namespace) -> int:
    from selftune.studies.listing_index import shown

    print("\n\n".join("\n".join(lines) for lines in shown(options.name)))
    return 0


def _resume(options: argparse.Namespace) -> int:
    file = options.folder / "study.yaml"
    if file.is_file() and has_sweep(file):
        return resume_folder(options.folder, options)
    from selftune.sweeps.comparison.record import is_comparison

    if is_comparison(options.folder):
        return resume_comparison(options.folder, options)
    return _resume_folder(options.folder, options)


def _resume_folder(folder: Path, options: argparse.Namespace) -> int:
    from selftune.studies.folder import is_local, open_folder

    study, summary = open_folder(folder)
    if summary.get("status") == "finished":
        from selftune.studies.mistakes import called

        print(called(f"{folder}: is finished, there is nothing to resume; see {folder / 'report.html'}"))
        return 0
    return _go(study, folder, is_local(folder), options)


def _replay(options: argparse.Namespace) -> int:
    from selftune.studies.display import say
    from selftune.studies.horizon import SCHEDULE
    from selftune.studies.replay import OTHER_NETWORK, SAME_NETWORK, replay, same_network
    from selftune.studies.results import print_results
    from selftune.studies.stopping import Interrupted
    from selftune.studies.study_failed import StudyFailed

    console = _console()
    try:
        results, spreads, verdict = replay(
            options.folder,
            console,
            final=options.final,
            seeds=options.seeds,
            schedule=options.schedule,
            share=options.share,
            average=options.average,
            workers=options.workers,
            sharded=options.strategy == "fsdp",
        )
    except StudyFailed as error:
        _complain(f"selftune: {error}")
        return 1
    except KeyboardInterrupt as error:
        raise Interrupted("nothing was kept of the replay") from error
    console.print()
    seeds = ", one seed" if options.seeds == 1 else f", mean of {options.seeds} seeds ± standard deviation"
    print_results(console, f"plain networks, the same training steps each{seeds}", results, spreads=spreads)
    if verdict:
        say(console, f"{verdict[:1].upper()}{verdict[1:]}.")
    if SCHEDULE in results and options.schedule is None and options.share == 1 and options.workers in (None, 1):
        again = same_network(options.folder)
        say(console, SAME_NETWORK if again else OTHER_NETWORK)
    return 0


def _schedule(options: argparse.Namespace) -> int:
    from selftune.errors import SettingError
    from selftune.schedule import Schedule
    from selftune.studies.mistakes import UserError

    schedules = [Schedule.load(source) for source in options.sources]
    for source, schedule in zip(options.sources, schedules, strict=True):
        try:
            schedule.check_names(schedules[0].names)
        except SettingError as error:
            raise UserError(f"{source}: compared with {options.sources[0]}, {error.message}") from error
    if options.stretch is not None:
        schedules = [schedule.stretched(options.stretch) for schedule in schedules]
    made = Schedule.mean(schedules)
    if options.smooth is not None:
        made = made.smoothed(options.smooth)
    try:
        made.save(options.output)
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise UserError(f"{options.output}: cannot be written: {reason}") from error
    what = f"the mean of {len(schedules)} schedules" if len(schedules) > 1 else "a schedule"
    number = len(made.names)
    hyperparameters = f"{number} hyperparameter{'s' * (number > 1)}"
    print(f"{options.output}: {what} of {hyperparameters} over {made.steps:,} training steps")
    return 0


def _report(options: argparse.Namespace) -> int:
    from selftune.studies.folder import check_recorded
    from selftune.studies.mistakes import UserError
    from selftune.sweeps.comparison.record import is_comparison
    from selftune.tracking.report import write_report
    from selftune.tracking.sweep_report import write_sweep_report

    folder = options.folder
    if is_comparison(folder):
        return report_comparison(options)
    check_recorded(folder)
    is_sweep = (folder / "study.yaml").is_file() and has_sweep(folder / "study.yaml")
    try:
        print(write_sweep_report(folder) if is_sweep else write_report(folder))
    except FileNotFoundError as error:
        if (folder / "study.yaml").is_file():
            raise UserError(
                f"{folder}: nothing has been recorded yet; continue the study with `selftune resume {folder}`"
            ) from error
        raise UserError(str(error)) from error
    except ValueError as error:
        raise UserError(str(error)) from error
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise UserError(
            f"{folder}: the report cannot be written: {reason}; copy the folder to a place of your own"
        ) from error
    return 0


def _sync(options: argparse.Namespace) -> int:
    from selftune.studies.folder import check_recorded, load_network
    from selftune.studies.mistakes import UserError
    from selftune.studies.results import mlflow_command
    from selftune.tracking.sync import SyncError, sync

    try:
        check_recorded(options.folder)
        sent = sync(options.folder, network=load_network)
    except FileNotFoundError as error:
        raise UserError(str(error)) from error
    except SyncError as error:
        _complain(f"selftune: {error}")
        return 1
    said = "sent" if sent else "nothing to send, all of it is there"
    print(f"{said}; look at it with: {mlflow_command(options.folder)}")
    return 0


def _load(options: argparse.Namespace, local: bool) -> Study:
    import os

    from selftune.studies.mistakes import Mistakes
    from selftune.studies.packaged import find_study
    from selftune.studies.yaml_file import check_yaml

    path = find_study(options.study)
    check_yaml(path)  # before torch is imported
    from selftune.studies.machine import check_device, check_room, check_workers
    from selftune.studies.study_file import load_study

    study = load_study(path, options.seed, options.steps)
    if local or "RAY_ADDRESS" not in os.environ:  # a cluster elsewhere may have GPUs, and more room
        try:
            check_device(study)
            if local:
                check_workers(study)
            else:
                check_room(study)
        except Mistakes as error:
            raise error.in_file(str(path)) from error
    return study


def _go(study: Study, folder: Path, local: bool, options: argparse.Namespace) -> int:
    from selftune.studies.carried_out import carried_out
    from selftune.studies.results import print_summary
    from selftune.studies.run import run

    console, mlflow = _console(), not options.no_mlflow
    summary = carried_out(
        folder, lambda: run(study, folder, console, local=local, mlflow=mlflow, driving=driving(options))
    )
    if summary is None:
        return 1
    print_summary(console, summary, folder, mlflow)
    return 0


def _console() -> Console:
    from rich.console import Console

    return Console()


if __name__ == "__main__":
    sys.exit(main())
