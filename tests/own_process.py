"""Commands that run in a process of their own: what starts a Ray cluster takes no other test along when it dies.

Ray ends its driver from below Python in some cases: 60 seconds after its control store was lost, with status 1.
What it says then is lost with what pytest captures. Of a process of its own a test shows status and output.
"""

import os
import subprocess
import sys


def selftune(*arguments, cwd, seconds=250.0):
    """What ``selftune ARGUMENTS`` prints in the folder ``cwd``, on a cluster of its own unless ``--local``."""
    environment = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    command = [sys.executable, "-m", "selftune.cli", *map(str, arguments)]
    process = subprocess.Popen(
        command, cwd=cwd, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    try:
        output, _ = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        output = f"{process.communicate()[0]}\nnot done within {seconds:g} seconds"
    assert process.returncode == 0, f"selftune ended with status {process.returncode}:\n{output}"
    return output
