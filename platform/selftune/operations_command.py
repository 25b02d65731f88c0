"""The commands ``selftune status`` and ``selftune stop``: a run as seen from another terminal."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from selftune.studies.status_words import Standing

# Nothing here imports torch or Ray, so that a look costs nothing on a busy machine.

_LOOK = 0.5  # seconds between two looks at a driver that is to stop


def add_status_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds what ``selftune status`` takes."""
    parser.add_argument("folder", type=Path, metavar="DIR", help="output folder of a study, sweep or comparison")
    parser.add_argument("--json", action="store_true", help="all of it as one line of JSON")


def add_stop_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds what ``selftune stop`` takes."""
    parser.add_argument("folder", type=Path, metavar="DIR", help="output folder of a study, sweep or comparison")
    parser.add_argument("--no-wait", action="store_true", help="ask it to stop and return at once")


def status(options: argparse.Namespace) -> int:
    """Says how the run of a folder stands."""
    import json

    from selftune.studies.status_words import lines

    found = _standing(options.folder)
    if options.json:
        print(json.dumps(found.as_mapping()))
    else:
        print("\n".join(lines(found)))
    return 0


def stop(options: argparse.Namespace) -> int:
    """Asks the driver of a folder to stop, and waits until it has."""
    from selftune.studies.driver import REQUEST
    from selftune.studies.mistakes import UserError

    folder: Path = options.folder
    found = _standing(folder)
    if not found.runs:
        print(f"{folder}: nothing runs there; it is {found.state}")
        return 0
    try:
        (folder / REQUEST).touch()
    except OSError as error:
        raise UserError(
            f"{folder}: a request to stop cannot be written: {(error.strerror or '').lower()}"
        ) from error
    print(f"{folder}: asked to stop; it finishes the hyper-step first", flush=True)
    if options.no_wait:
        return 0
    while (found := _standing(folder)).runs:
        time.sleep(_LOOK)
    print(f"{folder}: {found.state}")
    if found.state == "killed":
        print(
            f"selftune: the driver died before it had stopped; go on with `selftune resume {folder}`",
            file=sys.stderr,
        )
        return 1
    return 0


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
