"""Studies sent to a cluster of two nodes, through its job API."""

import json

import pytest
from services.processes import wait_until

pytestmark = [pytest.mark.integration, pytest.mark.timeout(540)]  # a busy machine is no failure

STUDY = """\
study: tiny
objective: {task: digits, hidden: [8], train_examples: 100, validation_examples: 100}
regularizers:
  dropout: {rate: {start: 0.1}}
method: {name: self_tuning, warmup_steps: 10, checkpoint_every: 2}
trainers: {number: 2, cpus: 0.5}
budget: {steps: 60}
"""


@pytest.fixture
def study(tmp_path):
    (tmp_path / "tiny.yaml").write_text(STUDY)
    return tmp_path / "tiny.yaml"


def test_a_study_is_sent_followed_and_fetched(selftune, study, tmp_path):
    done = selftune("submit", "tiny.yaml", "--output", tmp_path / "there", "--name", "tiny-1", "--no-mlflow")
    assert "60/60 training steps" in done.stdout
    assert "report   runs/tiny-1/report.html" in done.stdout
    assert json.loads((tmp_path / "runs" / "tiny-1" / "summary.json").read_text())["status"] == "finished"
    assert not (tmp_path / "runs" / "tiny-1" / "ray").exists()
    assert "tiny-1: succeeded" in selftune("status", "tiny-1").stdout
    assert selftune("logs", "tiny-1").stdout in done.stdout
    again = selftune("submit", "tiny.yaml", "--name", "tiny-1", "--to", "elsewhere", status=1)
    assert "tiny-1: the cluster has a job of this name" in again.stderr


def test_a_job_without_waiting_is_looked_at_stopped_and_gone_on_with(selftune, study, tmp_path):
    study.write_text(STUDY.replace("60", "100000"))
    given = ["submit", "tiny.yaml", "--output", tmp_path / "there", "--no-mlflow", "--no-wait", "--name"]
    assert "`selftune stop tiny-2 " in selftune(*given, "tiny-2").stdout
    wait_until(lambda: "hyper-step" in selftune("logs", "tiny-2").stdout, "training")
    assert "tiny-2: running" in selftune("status", "tiny-2").stdout
    assert "tiny-2: stopped" in selftune("stop", "tiny-2").stdout
    assert json.loads((tmp_path / "there" / "summary.json").read_text())["status"] == "stopped"


@pytest.mark.parametrize("token", [None, "wrong"])
def test_a_cluster_that_is_not_shown_its_token_is_a_sentence(selftune, study, tmp_path, token):
    shown = {"RAY_AUTH_MODE": "disabled"} if token is None else {"RAY_AUTH_TOKEN": token}
    done = selftune("submit", "tiny.yaml", "--output", tmp_path / "there", status=1, **shown)
    [line] = done.stderr.splitlines()
    assert ("asks for its token" if token is None else "refuses the token in RAY_AUTH_TOKEN") in line
