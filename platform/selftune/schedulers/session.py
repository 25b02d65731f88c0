"""What a cluster of a run's own has for itself: a folder, a token, and a process that sees to its end."""

from __future__ import annotations

import os
import secrets
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from selftune.schedulers import ray_internals, watchdog

_LONGEST_BASE = 20  # characters; the path of a Unix socket has 107, and Ray's own part takes most of them
_END = 15.0  # seconds to wait for what a cluster leaves behind


@contextmanager
def private_session() -> Iterator[Path]:
    """A folder for the files of a cluster that starts within the context, and the settings that close it.

    Other users of the machine cannot look into the folder, where Ray's Unix sockets are. Its listeners are bound
    to the loopback interface and answer only to who shows the token, which is made anew for each session and which
    the processes of the cluster find through their environment. Nothing is written to the home directory.

    When the context ends, or this process dies in whatever way, what is left of the cluster is ended and the
    folder removed. What this process itself has started or forked meanwhile is left alone.

    Raises:
        RuntimeError: if this process is connected to a cluster, which would be lost with its token.
    """
    outer = Path(tempfile.mkdtemp(prefix="selftune-", dir=_base()))  # of mode 0700; Ray opens its own to everybody
    with _watched(outer):
        token = outer / "token"
        with open(os.open(token, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(secrets.token_hex(32))
        closed = {
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN_PATH": str(token),
            "RAY_AUTH_TOKEN": None,  # would come before the file
        }
        mark = {watchdog.MARK: str(outer)}
        with ray_internals.authentication(closed), ray_internals.on_loopback(), ray_internals.apart(mark):
            yield outer / "ray"


def _base() -> str:
    base = os.environ.get("RAY_TMPDIR") or tempfile.gettempdir()
    return base if len(base) <= _LONGEST_BASE else "/tmp"


@contextmanager
def _watched(folder: Path) -> Iterator[None]:
    about = str(folder), str(os.getpid()), str(os.getsid(0))
    process = subprocess.Popen(
        [sys.executable, "-I", "-S", str(watchdog.__file__), *about],
        stdin=subprocess.PIPE,  # which ends with this process, however that ends
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        cwd="/",
        start_new_session=True,
    )
    try:
        yield
    finally:
        with suppress(subprocess.TimeoutExpired):  # it goes on by itself
            process.communicate(b"end", timeout=_END)
