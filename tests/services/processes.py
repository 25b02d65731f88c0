"""A server as a process of a test: started on a port of this machine, waited for, ended with all its children."""

import contextlib
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path


def free_port() -> int:
    """A port of the loopback interface that nobody listens on."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return taken.getsockname()[1]


def wait_until(condition: Callable[[], object], what: str, seconds: float = 90.0) -> None:
    """Looks until it is so. Failures to connect are a no.

    Raises:
        TimeoutError: It was not so within the time.
    """
    deadline = time.monotonic() + seconds
    problem: object = "no"
    while time.monotonic() < deadline:
        try:
            if condition():
                return
        except OSError as error:
            problem = error
        time.sleep(0.1)
    raise TimeoutError(f"{what}: not within {seconds:g} seconds ({problem})")


@contextlib.contextmanager
def running(
    command: Sequence[str], log: Path, environment: Mapping[str, str], user: str | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    """A process in a group of its own, which is ended whole: asked first, and killed after 20 seconds."""
    with log.open("ab") as output:
        process = subprocess.Popen(
            list(command),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=dict(environment),
            cwd=log.parent,
            start_new_session=True,
            user=user,
            group=user,
            extra_groups=[] if user else None,
        )
    try:
        yield process
    finally:
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(20)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def wait_for(
    process: subprocess.Popen[bytes], ready: Callable[[], object], log: Path, seconds: float = 90.0
) -> None:
    """Waits until a server is ready; what it said is in the error if it ends, or does not get ready.

    Raises:
        RuntimeError: It ended, or was not ready within the time.
    """

    def ready_or_gone() -> bool:
        return process.poll() is not None or bool(ready())

    what = " ".join(map(str, process.args))[:80] if not isinstance(process.args, str) else process.args
    problem = ""
    try:
        wait_until(ready_or_gone, what, seconds)
    except TimeoutError as error:
        problem = str(error)
    if process.poll() is not None:
        problem = f"{what} ended with status {process.returncode}"
    if problem:
        raise RuntimeError(f"{problem}\n{log.read_text(errors='replace')[-4000:]}")
