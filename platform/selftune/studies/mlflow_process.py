"""The process beside a study that sends it to MLflow."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from rich.console import Console

from selftune.storage.address import hide
from selftune.studies.display import say

PATIENCE = 60.0  # seconds that a finished study waits for its last files to arrive


class MlflowProcess:
    """Sends the study of a folder, in a process of its own, so that a slow server slows nothing else."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._said = tempfile.TemporaryFile("w+", encoding="utf-8")  # noqa: SIM115
        self._process = subprocess.Popen(
            [sys.executable, "-m", "selftune.studies.mlflow_process", str(folder), "--follow"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=self._said,  # a file, because nobody would read a pipe meanwhile
            start_new_session=True,  # out of reach of Ctrl-C, from its first moment on
        )

    def finish(self, console: Console, patient: bool) -> None:
        """Waits for the rest to arrive, for a bounded time, and says in one line what did not."""
        try:
            self._process.wait(timeout=PATIENCE if patient else PATIENCE / 6)
        except subprocess.TimeoutExpired:
            again = f"`selftune sync {self.folder}` makes sure"
            say(console, f"MLflow: still sending; it goes on by itself ({again})")
            return
        if self._process.returncode:
            self._said.seek(0)
            lines = [line for line in self._said.read().splitlines() if line.strip()]
            last = hide(lines[-1], os.environ.get("MLFLOW_TRACKING_URI", "")) if lines else ""  # of a traceback
            say(console, f"MLflow: {last or 'sending stopped without a word'}")


if __name__ == "__main__":
    from selftune.studies.folder import load_network
    from selftune.tracking.sync import main

    sys.exit(main(network=load_network))
