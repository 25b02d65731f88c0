"""A cluster whose control store dies: Ray ends the driver, and the same command goes on, as a job starts it."""

import os
import subprocess
import sys

import pytest

from selftune.cli import main
from selftune.studies.status_words import standing
from selftune.tracking.summary import read_summary
from selftune.tracking.trajectory import read_trajectory

STUDY = """\
study: tiny
objective: {task: digits, hidden: [16], train_examples: 200}
regularizers: {dropout: {rate: {start: 0.1}}}
method: {name: self_tuning, warmup_steps: 10, checkpoint_every: 2}
budget: {steps: 60}
"""
RUN = ["run", "tiny.yaml", "--no-mlflow", "--output", "out", "--restart"]
LOSES_ITS_HEAD = f"""
import os, signal, sys, threading
from ray._private import worker
from selftune.cli import main
from selftune.tracking.trajectory import TrajectoryWriter

told = TrajectoryWriter.hyper_step
def hyper_step(self, step):
    told(self, step)
    if step.number == 6:
        [head] = worker._global_node.all_processes["gcs_server"]
        os.kill(head.process.pid, signal.SIGKILL)
        threading.Event().wait()  # until Ray ends this process

TrajectoryWriter.hyper_step = hyper_step
sys.exit(main({RUN}))
"""


@pytest.mark.full
@pytest.mark.timeout(900)  # two clusters, one after the other, on a busy machine
def test_a_head_that_dies_loses_nothing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    (tmp_path / "tiny.yaml").write_text(STUDY)
    soon = {**os.environ, "RAY_gcs_rpc_server_reconnect_timeout_s": "2"}  # instead of 60
    died = subprocess.run([sys.executable, "-c", LOSES_ITS_HEAD], env=soon, capture_output=True, text=True)
    assert died.returncode == 1, died.stderr
    assert standing(tmp_path / "out").state == "killed"
    assert len(read_trajectory(tmp_path / "out")) == 7  # what was reported is there
    again = subprocess.run([sys.executable, "-m", "selftune.cli", *RUN], capture_output=True, text=True)
    assert again.returncode == 0, again.stderr
    assert main(["run", "tiny.yaml", "--local", "--no-mlflow", "--output", "whole"]) == 0
    there, whole = read_trajectory(tmp_path / "out"), read_trajectory(tmp_path / "whole")
    assert (there.values == whole.values).all()
    assert (there.validation_loss == whole.validation_loss).all()
    assert read_summary(tmp_path / "out")["tuned"] == read_summary(tmp_path / "whole")["tuned"]
