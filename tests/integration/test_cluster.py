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
  concurrent: 2
  over: {objective.optimization.learning_rate: {log_uniform: [1.0e-4, 1.0e-2]}}
"""

OF_MLFLOW = ("/users/current", "ResizeObserver loop")
"""What MLflow's own page complains of where its server has no login."""


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
    """The folder with the results of a study, during which a node and the driver were killed."""

    def steps():
        return cluster.log("digits-1").count("hyper-step")

    sent = time.time()
    given = ["--output", "s3://selftune/digits-1", "--name", "digits-1"]
    user.run(place, "submit", "digits.yaml", *given, "--no-wait")
    wait_until(lambda: steps() >= 1, "the first hyper-step", 300)
    print(f"from submit to the first hyper-step: {time.time() - sent:.1f} seconds")
    cluster.kill_node()
    cluster.add_node()
    before = steps()
    wait_until(lambda: steps() > before + 1, "hyper-steps without the node", 300)
    [driver] = [one for one in cluster.processes() if {"selftune.cli", "run"} <= {*one.cmdline()}]
    driver.send_signal(signal.SIGKILL)
    done = user.run(place, "logs", "digits-1", "--follow")
    assert "the driver was ended by SIGKILL; it starts again" in done.stdout
    user.run(place, "fetch", "digits-1")
    return place / "runs" / "digits-1"


def test_it_resumes_by_itself_to_the_trajectory_of_an_undisturbed_run(digits, user, place):
    user.run(place, "run", "digits.yaml", "--local", "--no-mlflow", "--output", "undisturbed")
    disturbed, undisturbed = read_trajectory(digits), read_trajectory(place / "undisturbed")
    assert len(disturbed.hyper_step) > 50
    assert np.array_equal(disturbed.values, undisturbed.values)
    summary = json.loads((digits / "summary.json").read_text())
    assert summary["status"] == "finished"


def test_all_of_it_is_in_mlflow(digits, tracking):
    def status():
        return tracking.study("digits-1")["info"]["status"]

    wait_until(lambda: status() == "FINISHED", "the last files")  # which the study waits a minute for
    run, trajectory = tracking.study("digits-1")["info"]["run_id"], read_trajectory(digits)
    points = tracking.history(run, "value/dropout.rate/input")
    # the server orders them by time, which the second driver counts from the checkpoint on
    assert sorted(point["step"] for point in points) == trajectory.training_step.tolist()
    assert {"report.html", "study.yaml", "summary.json"} <= tracking.artifacts(run)
    assert tracking.artifact(run, "report.html") == (digits / "report.html").read_bytes()


def test_the_page_of_the_run_shows_curves(digits, tracking, browser, tmp_path):
    about = tracking.study("digits-1")["info"]
    address = f"{tracking.address}/#/experiments/{about['experiment_id']}/runs/{about['run_id']}/model-metrics"
    with browser.page() as page:
        for width in (1400, 360):
            page.open(address, width)
            page.wait("document.querySelectorAll('.js-plotly-plot path.js-line').length > 2")
            page.picture(tmp_path / f"run-{width}.png")
            assert page.overflow() == 0
        assert [error for error in page.errors if not any(known in error for known in OF_MLFLOW)] == []


def test_the_report_is_whole_on_a_phone_and_on_a_desk(digits, browser, tmp_path):
    with browser.page() as page:
        for width in (360, 1400):
            page.open((digits / "report.html").as_uri(), width)
            page.picture(tmp_path / f"report-{width}.png")
            assert page.overflow() == 0
            there = page.value(
                "[...document.querySelectorAll('svg')].map(one => [one.getBoundingClientRect().width,"
                " one.querySelectorAll('path').length])"
            )
            drawn = [(size, paths) for size, paths in there if size]  # others are folded away
            assert len(drawn) > 5
            assert all(100 < size <= width and paths > 3 for size, paths in drawn), drawn
            sizes = (
                "[...document.querySelectorAll('p, td')].map(one => parseFloat(getComputedStyle(one).fontSize))"
            )
            assert min(page.value(sizes)) >= 12
        assert page.errors == []


def test_a_sweep_is_sent_and_every_trial_is_in_mlflow(user, place, tracking):
    given = ["--output", "s3://selftune/swept-1", "--name", "swept-1"]
    done = user.run(place, "submit", "swept.yaml", *given)
    folder = place / "runs" / "swept-1"
    assert f"report   {folder.relative_to(place)}/report.html" in done.stdout
    assert json.loads((folder / "summary.json").read_text())["status"] == "finished"
    assert len(tracking.parts("swept-1")) == 3
