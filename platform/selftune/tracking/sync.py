"""Sends a study's folder to MLflow, in a process of its own, so that no server can slow or stop training.

``selftune run`` starts ``python -m selftune.studies.mlflow_process DIR --follow`` beside the study; ``selftune
sync`` calls ``sync`` later for whatever could not be sent. Both send only what is missing (see ``record``).
"""

from __future__ import annotations

import argparse
import fcntl
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from torch import nn

from selftune.storage.files import DamagedFile
from selftune.tracking.record import PasswordMissing, tracking_uri
from selftune.tracking.search_file import SEARCH_FILE
from selftune.tracking.sender import Sender
from selftune.tracking.server import Refused, Unreachable
from selftune.tracking.study_sender import StudySender
from selftune.tracking.summary import has_ended, read_summary
from selftune.tracking.sweep_sender import SweepSender

INTERVAL = 1.0  # seconds between two looks at the folder
LONGEST_PAUSE = 30.0  # between two attempts at a server that is away
SHARE = 0.1  # of a processor, at most, goes into following; waiting for a server costs none

_clock, _pause, _work = time.monotonic, time.sleep, time.process_time
_STUDY_FILES = ("study.yaml", "trajectory.parquet", "trajectory.arrows")


class SyncError(RuntimeError):
    """A study could not be sent completely; the message says why and what to do."""


def sync(folder: Path, *, follow: bool = False, network: Callable[[Path], nn.Module] | None = None) -> bool:
    """Sends what the folder of a study or a sweep holds and the tracking server lacks, exactly once.

    The server is ``MLFLOW_TRACKING_URI``, else the one that the study was sent to before, else the database
    ``mlflow.db`` in the working folder; the experiment is ``MLFLOW_EXPERIMENT_NAME``, else "selftune".

    With ``follow`` it goes on, a look per second, until ``summary.json`` says that the study has ended or the
    parent process is gone; a server that is away is tried again and again, and a last time at the end.

    Args:
        network: builds the trained network of a folder, which becomes a model there; without it none is sent.

    Returns:
        Whether anything was missing there.

    Raises:
        FileNotFoundError: if the folder holds no study.
        SyncError: if the server is away, refuses something, needs a password that is not given, or another process
            is sending the same folder.
    """
    folder = Path(folder)
    if not any((folder / name).exists() for name in _STUDY_FILES):
        raise FileNotFoundError(f"{folder}: holds no study; give the output folder of a study")
    parent = os.getppid()
    try:
        uri = tracking_uri(folder)
    except PasswordMissing as error:
        raise SyncError(str(error)) from error
    with _alone(folder, waits=follow):  # the sender of a driver that was killed may not have ended yet
        sender = _sender(folder, uri, network)
        pause, next_attempt, is_first = INTERVAL, 0.0, True
        while True:
            # asked before sending: what was written before the end is then sent in this round
            orphaned = os.getppid() != parent
            last = not follow or orphaned or has_ended(read_summary(folder))
            if last or _clock() >= next_attempt:
                began = _work()
                try:
                    sender.send(complete=last, abandoned=follow and orphaned)
                except (Unreachable, Refused) as error:
                    if last:
                        raise SyncError(f"{error}; send later with `selftune sync {folder}`") from error
                    pause = min(2 * pause, LONGEST_PAUSE)
                else:
                    # the first time imports MLflow and sends what was there before, once
                    cost = 0.0 if is_first else _work() - began
                    pause, is_first = min(max(INTERVAL, cost / SHARE), LONGEST_PAUSE), False
                if last:
                    return sender.sent
                next_attempt = _clock() + pause
            _pause(INTERVAL)


def _sender(folder: Path, uri: str, network: Callable[[Path], nn.Module] | None) -> Sender:
    is_sweep = (folder / SEARCH_FILE).exists() or read_summary(folder).get("kind") == "sweep"
    return (SweepSender if is_sweep else StudySender)(folder, uri, network)


@contextmanager
def _alone(folder: Path, waits: bool = False) -> Iterator[None]:
    """Within the context no other process sends the folder.

    Args:
        waits: for one that does; else that is an error.
    """
    with (folder / ".mlflow.lock").open("w") as lock:
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError as error:
                if not waits:
                    raise SyncError(f"another process is sending {folder}: wait until it is done") from error
                _pause(INTERVAL)
        yield


def main(arguments: list[str] | None = None, network: Callable[[Path], nn.Module] | None = None) -> int:
    """``python -m selftune.studies.mlflow_process DIR [--follow]``: 0 if all was sent, else 1 and a sentence."""
    parser = argparse.ArgumentParser(prog="python -m selftune.studies.mlflow_process", description=sync.__doc__)
    parser.add_argument("folder", type=Path, metavar="DIR")
    parser.add_argument("--follow", action="store_true", help="go on until the study has ended")
    options = parser.parse_args(arguments)
    if options.follow:
        for kind in (signal.SIGINT, signal.SIGTERM):  # they are for the study, which then writes its summary
            signal.signal(kind, signal.SIG_IGN)
        os.nice(10)  # the study comes first
    try:
        sync(options.folder, follow=options.follow, network=network)
    except (FileNotFoundError, DamagedFile, SyncError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0
