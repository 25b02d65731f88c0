"""Digits and a sweep on a cluster that loses a node and a driver, and all that a person looks at afterwards."""

import json
import signal
import time

import numpy as np
import pytest
from services.processes import wait_until
from services.tracking_api import TrackingApi

from selftune.tracking.trajectory import read_trajectory

pytestmark = [pytest.mark.integration, pytest.mark.timeout(900)]  # a busy machine is no failure

STUDY = """\
study: digits
objective: {task: digits, hidden: [32, 32], optimization: {optimizer: adam, learning_rate: 0.001}}
regularizers:
  dropout: {parts: {input: [hidden1], hidden: [hidden2, output]}, rate: {start: 0.05}}
  weight_decay: {parts: layer, strength: {start: 1.0e-4}}
  label_smoothing: {epsilon: {start: 0.02, domain: {interval: [0, 0.5]}}}
method: {name: self_tuning, learning_rate: 0.006, warmup_steps: 20, checkpoint_every: 5}
trainers: {number: 2, cpus: 1}
budget: {steps: 400}
seed: 1
"""

SWEEP = """\
study: swept
objective: {task: digits, hidden: [8], train_examples: 100, validation_examples: 100}
regularizers: {dropout: {rate: {start: 0.1}}}
method: {name: self_tuning, warmup_steps: 5}
trainers: {number: 1, cpus: 1}
budget: {steps: 30}
sweep:
  trials: 3
  at_once: 2
  space: {objective.optimization.learning_rate: {log: [1.0e-4, 1.0e-2]}}
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("place")
    (folder / "digits.yaml").write_text(STUDY)
    (folder / "swept.yaml").write_text(SWEEP)
    return folder


@pytest.fixture(scope="module")
def tracking(servers):
    return TrackingApi(servers.mlflow)


@pytest.fixture(scope="module")
def digits(user, cluster, place):
    """The folder with the results of a study, during which a node and the driver were killed; when it was sent."""

    def steps():
        return cluster.log("digits-1").count("hyper-step")

    sent = time.time()
    user.run(place, "submit", "digits.yaml", "--output", "s3://selftune/digits-1", "--name", "digits-1", "--no-wait")
    wait_until(lambda: steps() >= 1, "the first hyper-step", 300)
    cluster.kill_node()
    cluster.add_node()
    before = steps()
    wait_until(lambda: steps() > before + 1, "hyper-steps without the node", 300)
    [driver] = [one for one in cluster.processes() if {"selftune.cli", "run"} <= {*one.cmdline()}]
    driver.send_signal(signal.SIGKILL)
    done = user.run(place, "logs", "digits-1", "--follow")
    assert "the driver was ended by SIGKILL; it starts again" in done.stdout
    user.run(place, "fetch", "digits-1")
    return place / "runs" / "digits-1", sent


def test_it_resumes_by_itself_to_the_trajectory_of_an_undisturbed_run(digits, user, place):
    folder, _ = digits
    user.run(place, "run", "digits.yaml", "--local", "--no-mlflow", "--output", "undisturbed")
    disturbed, undisturbed = read_trajectory(folder), read_trajectory(place / "undisturbed")
    assert len(disturbed.hyper_step) > 50
    assert np.array_equal(disturbed.values, undisturbed.values)
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["status"] == "finished"


def test_all_of_it_is_in_mlflow(digits, tracking):
    folder, sent = digits
    trajectory = read_trajectory(folder)
    runs = tracking.runs("digits")
    [parent] = [run for run in runs if not any(tag["key"] == "mlflow.parentRunId" for tag in run["data"]["tags"])]
    run = parent["info"]["run_id"]
    assert parent["info"]["status"] == "FINISHED"
    points = tracking.history(run, "dropout.rate[input]")
    assert [point["step"] for point in points] == trajectory.training_step.tolist()
    assert {"report.html", "study.yaml", "summary.json", "model"} <= tracking.artifacts(run)
    assert tracking.artifact(run, "report.html") == (folder / "report.html").read_bytes()
