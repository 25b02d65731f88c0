"""Commands that run in a process of their own: what starts a Ray cluster takes no other test along when it dies.

Ray ends its driver from below Python in some cases: 60 seconds after its control store was lost, with status 1.
What it says then is lost with what pytest captures. Of a process of its own a test shows status and output.

Ray's settings of a process, such as the token that it shows, are for one cluster at a time: what changes them runs
here too, for the process of a test may be connected to the cluster of other tests.
"""

import os
import subprocess
import sys


def selftune(*arguments, cwd, seconds=250.0):
    """What ``selftune ARGUMENTS`` prints in the folder ``cwd``, on a cluster of its own unless ``--local``."""
    return _printed("-m", "selftune.cli", *arguments, cwd=cwd, seconds=seconds)


def python(script, *arguments, cwd, seconds=250.0):
    """What a script prints in the folder ``cwd``, without the developer's settings of Ray, or those of a test."""
    return _printed("-c", script, *arguments, cwd=cwd, seconds=seconds)


def _printed(*arguments, cwd, seconds):
    environment = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("RAY_") or name == "RAY_worker_niceness"
    }
    process = subprocess.Popen(
        [sys.executable, *map(str, arguments)],
        cwd=cwd,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        output, _ = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        output = f"{process.communicate()[0]}\nnot done within {seconds:g} seconds"
    assert process.returncode == 0, f"the process ended with status {process.returncode}:\n{output}"
    return output
