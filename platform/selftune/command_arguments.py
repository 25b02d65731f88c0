"""Kinds of arguments that several commands take."""

from __future__ import annotations

import argparse
import math
from pathlib import Path
from urllib.parse import unquote, urlsplit

from selftune.logs import LEVELS
from selftune.storage.remote_folder import is_address
from selftune.studies.driver import DriverSettings
from selftune.studies.mistakes import UserError


class Address(str):
    """An address of a folder that is not on this machine, such as ``s3://bucket/digits-1``.

    ``selftune.remote_command`` gives commands a folder in its place.
    """


def place(text: str) -> Path | Address:
    """A folder on this machine, or an address.

    >>> place("runs/digits-1"), place("s3://bucket/digits-1"), place("file:///data/digits-1")
    (PosixPath('runs/digits-1'), 's3://bucket/digits-1', PosixPath('/data/digits-1'))
    """
    if text.startswith("file://"):
        return Path(unquote(urlsplit(text).path))
    return Address(text) if is_address(text) else Path(text)


def add_driving(parser: argparse.ArgumentParser) -> None:
    """Adds what every command takes that runs a study, a sweep or a comparison."""
    usual = DriverSettings()
    parser.add_argument(
        "--grace",
        type=seconds,
        metavar="SECONDS",
        help=f"after SIGTERM a hyper-step may take so long to its end (default: {usual.grace:g})",
    )
    parser.add_argument(
        "--log-level",
        choices=LEVELS,
        metavar="LEVEL",
        help=f"least level of the lines in DIR/logs: {', '.join(LEVELS)} (default: {usual.log_level})",
    )


def add_restart(parser: argparse.ArgumentParser) -> None:
    """Adds ``--restart``, of commands that begin something."""
    parser.add_argument(
        "--restart",
        action="store_true",
        help="begin in DIR, or go on with what it holds, whatever that is: for jobs that are started again",
    )


def check_restart(options: argparse.Namespace) -> None:
    """Refuses ``--restart`` without a folder.

    Raises:
        UserError: if there is none.
    """
    if options.restart and options.output is None:
        raise UserError("--restart: needs --output DIR, the folder to begin in or to go on with")


def driving(options: argparse.Namespace) -> DriverSettings:
    """What was given of ``add_driving``, or what is usual."""
    given = {"grace": options.grace, "log_level": options.log_level}
    return DriverSettings(**{name: value for name, value in given.items() if value is not None})


def seconds(text: str) -> float:
    """A time of at least 0 seconds.

    Raises:
        argparse.ArgumentTypeError: if it is none.

    >>> seconds("2.5")
    2.5
    """
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value < math.inf:
        raise argparse.ArgumentTypeError(f"must be a number of seconds, at least 0, got {text!r}")
    return value


def positive(text: str) -> int:
    """A whole number of at least 1.

    Raises:
        argparse.ArgumentTypeError: if it is none.

    >>> positive("3")
    3
    """
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be a whole number of at least 1, got {text!r}")
    return int(text)
