"""Commands whose folder is not on this machine: they get one that is, and the store what they write there."""

from __future__ import annotations

import argparse
import math
import os
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path, PurePosixPath

from selftune.command_arguments import Address
from selftune.errors import Stopped
from selftune.storage.capture import belongs
from selftune.storage.lease import claims, is_asked, lives
from selftune.storage.mirror import fetch
from selftune.storage.remote_folder import RemoteFolder, is_address
from selftune.storage.working_copy import place_of, working_copy
from selftune.studies.driver import REQUEST
from selftune.studies.driver_record import DRIVER
from selftune.studies.mistakes import UserError, call_place

Command = Callable[[argparse.Namespace], int]

_SAYING = ("driver.json", "status.json", "study.yaml", "comparison.json")
_AT_THE_END = 600.0  # seconds that a store may take until it has all of a run
_AT_ONCE = 5.0  # of a run that is to end at once


def with_folders(command: Command, options: argparse.Namespace) -> int:
    """Carries a command out with folders of this machine in place of the addresses among its arguments.

    Raises:
        UserError: if an address has no place there.
        SettingError: if there is no such store, it does not answer or refuses, or another process has the folder.
        UploadFailed: if the command is done, and the store could not be given all that it wrote.
    """
    if getattr(options, "looks", False):  # and takes addresses itself
        return command(options)
    with ExitStack() as stack:
        shown = ""
        for name in ("output", "folder"):
            if isinstance(address := getattr(options, name, None), Address):
                remote = RemoteFolder(address)
                is_read = getattr(options, "reads", False)
                outlives = getattr(options, "restart", False)  # by a machine that came for one that is gone
                setattr(
                    options, name, _copy(remote) if is_read else stack.enter_context(_working(remote, outlives))
                )
                shown = "" if is_read else remote.shown
        for name in ("places", "sources"):
            if given := getattr(options, name, None):
                setattr(
                    options, name, [_copy(RemoteFolder(one)) if is_address(str(one)) else one for one in given]
                )
        status = command(options)
    if shown:
        print(f"all of it is in {shown}")
    return status


def look(remote: RemoteFolder) -> tuple[Path, bool]:
    """A copy of the files that say how a run stands, with the signs of life that are seen there; whether it lives.

    Raises:
        UserError: if the store does not answer, or refuses.
    """
    folder = _copy(remote, "looks", lambda name: PurePosixPath(name).name in _SAYING)
    try:
        is_alive = any(lives(claim, file) for claim, file in claims(remote).values() if claim.owns)
        if is_alive and is_asked(remote):
            (folder / REQUEST).touch()
    except OSError as error:
        raise UserError(str(error)) from None
    now = time.time() if is_alive else 0.0
    for path in folder.rglob(DRIVER):
        os.utime(path, (now, now))
    return folder, is_alive


def _copy(remote: RemoteFolder, what: str = "copies", wanted: Callable[[str], bool] = belongs) -> Path:
    folder = place_of(remote, what)
    call_place(folder, remote.shown)
    try:
        fetch(remote, folder, wanted)
    except OSError as error:
        raise UserError(str(error)) from None
    return folder


@contextmanager
def _working(remote: RemoteFolder, outlives: bool) -> Iterator[Path]:
    call_place(place_of(remote), remote.shown)
    ask = lambda folder: (folder / REQUEST).touch()  # noqa: E731
    with working_copy(remote, ask, _patience, outlives=outlives) as folder:
        yield folder


def _patience(error: BaseException | None) -> float:
    if isinstance(error, Stopped):
        return _AT_THE_END if math.isinf(error.until) else max(_AT_ONCE, error.until - time.monotonic())
    return _AT_ONCE if isinstance(error, KeyboardInterrupt) else _AT_THE_END
