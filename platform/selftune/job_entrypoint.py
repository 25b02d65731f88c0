"""What ``selftune submit`` has a cluster carry out: ``selftune run``, and again when its process was killed.

Ray starts no job a second time. A driver that dies by a signal (SIGKILL, or memory that ran out) is started again
here, with the output of the one before.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from importlib.metadata import version

_ENDED = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)  # by somebody who wants the end


def command(restarts: int, arguments: Sequence[str]) -> list[str]:
    """What a job of a cluster carries out, so that it runs ``selftune ARGUMENTS`` there.

    Args:
        restarts: how often the process starts again after a signal has killed it.

    >>> command(3, ["run", "study.yaml"])[-3:]
    ['--', 'run', 'study.yaml']
    """
    given = ["--version", version("selftune"), "--restarts", str(restarts)]
    return ["python", "-m", "selftune.job_entrypoint", *given, "--", *arguments]


def main(arguments: Sequence[str] | None = None) -> int:
    """Carries it out, on the cluster; returns the exit status of the last process."""
    parser = argparse.ArgumentParser(prog="selftune.job_entrypoint")
    parser.add_argument("--version", required=True)
    parser.add_argument("--restarts", type=int, required=True)
    parser.add_argument("arguments", nargs="+")
    options = parser.parse_args(arguments)
    if options.version != version("selftune"):
        _say(
            f"the study was sent by version {options.version}, and the cluster has {version('selftune')};"
            " install the same version on both"
        )
        return 2
    asked = False

    def ask(number: int, frame: object) -> None:  # whoever stops a job tells all of its processes
        nonlocal asked
        asked = True

    for number in _ENDED:
        signal.signal(number, ask)
    given = [os.path.expanduser(one) if one.startswith("~/") else one for one in options.arguments]
    for left in range(options.restarts, -1, -1):
        status = subprocess.Popen([sys.executable, "-m", "selftune.cli", *given]).wait()
        if status >= 0 or asked or -status in _ENDED:
            break
        if left:
            _say(f"the driver was ended by {signal.Signals(-status).name}; it starts again, {left} times at most")
    return status if status >= 0 else 128 - status


def _say(sentence: str) -> None:
    print(f"selftune: {sentence}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
