"""The commands ``selftune status`` and ``selftune stop``: a run, or a job, as seen from another terminal."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from selftune.command_arguments import Address, place
from selftune.submit_command import add_address, is_job, job_status, job_stop

if TYPE_CHECKING:
    from selftune.studies.status_words import Standing

# Nothing here imports torch or Ray, so that a look costs nothing on a busy machine.


def add_status_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds what ``selftune status`` takes."""
    _add_folder(parser)
    parser.add_argument("--json", action="store_true", help="all of it as one line of JSON")


def add_stop_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds what ``selftune stop`` takes."""
    _add_folder(parser)
    parser.add_argument("--no-wait", action="store_true", help="ask it to stop and return at once")


def _add_folder(parser: argparse.ArgumentParser) -> None:
    words = "output folder of a study, sweep or comparison, its address, or a job of `selftune submit`"
    parser.add_argument("folder", type=place, metavar="DIR|JOB", help=words)
    add_address(parser)
    parser.set_defaults(looks=True)


def status(options: argparse.Namespace) -> int:
    """Says how the run of a folder stands."""
    import json

    from selftune.studies.mistakes import called
    from selftune.studies.status_words import lines

    if is_job(options):
        return job_status(options)
    found = _of(options.folder).standing()
    text = json.dumps(found.as_mapping()) if options.json else "\n".join(lines(found))
    print(called(text))
    return 0


def stop(options: argparse.Namespace) -> int:
    """Asks the driver of a folder to stop, and waits until it has."""
    from selftune.studies.mistakes import UserError

    if is_job(options):
        return job_stop(options)
    run = _of(options.folder)
    found = run.standing()
    if not found.runs:
        print(f"{run.shown}: nothing runs there; it is {found.state}")
        return 0
    try:
        run.ask_to_stop()
    except OSError as error:
        raise UserError(
            f"{run.shown}: a request to stop cannot be written: {(error.strerror or str(error)).lower()}"
        ) from error
    print(f"{run.shown}: asked to stop; it finishes the hyper-step first", flush=True)
    if options.no_wait:
        return 0
    while (found := run.standing()).runs or run.is_kept:
        time.sleep(run.pause)
    print(f"{run.shown}: {found.state}")
    if found.state == "killed":
        print(
            f"selftune: the driver died before it had stopped; go on with `selftune resume {run.shown}`",
            file=sys.stderr,
        )
        return 1
    return 0


class _Here:
    """A run whose folder is on this machine."""

    pause = 0.5
    is_kept = False

    def __init__(self, folder: Path) -> None:
        self._folder, self.shown = folder, str(folder)

    def standing(self) -> Standing:
        return _standing(self._folder)

    def ask_to_stop(self) -> None:
        from selftune.studies.driver import REQUEST

        (self._folder / REQUEST).touch()


class _There:
    """A run whose folder is in a store.

    Attributes:
        is_kept: whether a process still has the right to write there, as far as it brings the end of a run over.
    """

    pause = 2.0

    def __init__(self, address: Address) -> None:
        from selftune.storage.remote_folder import RemoteFolder

        self._remote = RemoteFolder(address)
        self.shown = self._remote.shown
        self.is_kept = False

    def standing(self) -> Standing:
        from selftune.remote_command import look

        folder, self.is_kept = look(self._remote)
        return _standing(folder)

    def ask_to_stop(self) -> None:
        from selftune.storage.lease import ask_to_stop

        ask_to_stop(self._remote)


def _of(folder: Path | Address) -> _Here | _There:
    return _There(folder) if isinstance(folder, Address) else _Here(folder)


def _standing(folder: Path) -> Standing:
    from selftune.studies.mistakes import UserError
    from selftune.studies.status_words import standing

    found = standing(folder)
    if (
        found.driver is None
        and not (folder / "study.yaml").is_file()
        and not (folder / "comparison.json").is_file()
    ):
        what = "holds no study" if folder.is_dir() else "is not a folder"
        raise UserError(f"{folder}: {what}; give the output folder of `selftune run` or `selftune compare`")
    return found
