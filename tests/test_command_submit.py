"""Commands about jobs of a cluster elsewhere, with a server that answers as Ray's does."""

import json

import pytest
from flaky_store import FlakyFileSystem
from job_server import JobServer

from selftune.cli import main
from selftune.schedulers import job_log
from selftune.storage.remote_folder import RemoteFolder
from selftune.studies.job_results import packed

STUDY = """\
study: tiny
objective: {task: digits}
regularizers: {dropout: {rate: {start: 0.1}}}
budget: {steps: 60}
"""


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("RAY_ADDRESS", "RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(job_log.time, "sleep", lambda seconds: None)
    (tmp_path / "tiny.yaml").write_text(STUDY)
    FlakyFileSystem.clear()
    yield tmp_path
    FlakyFileSystem.clear()


@pytest.fixture
def server(place, monkeypatch):
    with JobServer("earlier", "60/60 training steps\n").serving() as server:
        monkeypatch.setenv("RAY_API_SERVER_ADDRESS", server.address)
        yield server


def store(**files):
    for name, text in files.items():
        RemoteFolder("flaky://bucket/tiny").write(name.replace("_", "."), text.encode())


SUBMIT = ("submit", "tiny.yaml", "--output", "flaky://bucket/tiny", "--name", "mine")


def test_a_study_is_sent_followed_and_its_results_are_fetched(server, place, capsys):
    store(report_html="<p>fine</p>", **{"ray/record_safetensors": ""})
    assert main([*SUBMIT, "--seed", "3", "--no-mlflow"]) == 0
    [sent] = server.sent
    assert sent["entrypoint"].startswith("exec python -m selftune.job_entrypoint --version ")
    assert sent["entrypoint"].endswith(
        "--restarts 10 -- run study.yaml --output flaky://bucket/tiny --restart --seed 3 --no-mlflow"
    )
    assert sent["metadata"]["selftune.output"] == "flaky://bucket/tiny"
    shown = capsys.readouterr().out
    assert f"mine: sent to {server.address}; results go to flaky://bucket/tiny\n60/60 training steps\n" in shown
    assert "report   runs/mine/report.html (open it in a browser)\n" in shown
    assert [one.name for one in (place / "runs" / "mine").iterdir()] == ["report.html"]


def test_a_folder_of_the_cluster_comes_through_the_log_of_another_job(server, place, capsys):
    assert main(["submit", "tiny.yaml", "--name", "mine", "--no-wait"]) == 0
    assert "--output '~/selftune/mine'" in server.sent[0]["entrypoint"]
    (place / "there").mkdir()
    (place / "there" / "report.html").write_text("<p>fine</p>")
    server.text = f"Running entrypoint\n{packed(place / 'there')}\n"
    assert main(["fetch", "mine", "--to", "here"]) == 0
    assert server.sent[1]["entrypoint"] == "exec python -m selftune.studies.job_results '~/selftune/mine'"
    assert (place / "here" / "report.html").read_text() == "<p>fine</p>"
    server.name, server.text = "mine", "~/selftune/mine: is not a folder\n"
    assert main(["fetch", "mine", "--to", "elsewhere"]) == 2
    assert (
        "results were not fetched from ~/selftune/mine: ~/selftune/mine: is not a folder"
        in capsys.readouterr().err
    )
    assert not (place / "elsewhere").exists()


@pytest.mark.parametrize(
    ("state", "code", "status"), [("FAILED", 2, 2), ("FAILED", 143, 143), ("STOPPED", None, 0)]
)
def test_the_exit_status_is_that_of_the_job(server, capsys, state, code, status):
    server.state, server.code = state, code
    assert main([*SUBMIT]) == status
    assert main(["logs", "mine", "--follow"]) == status
    said = capsys.readouterr()
    assert ("goes on with it" in said.out) == (state == "STOPPED")
    assert (f"failed, with exit status {code}" in said.err) == (state == "FAILED")


def test_a_job_that_is_not_waited_for(server, capsys):
    assert main([*SUBMIT, "--no-wait"]) == 0
    assert f"`selftune fetch mine --address {server.address}`" in capsys.readouterr().out
    assert main(["status", "mine"]) == 0
    assert "mine: running for" in capsys.readouterr().out
    assert main(["status", "mine", "--json", "--address", server.address]) == 0
    assert json.loads(capsys.readouterr().out)["output"] == "flaky://bucket/tiny"
    assert main(["logs", "mine"]) == 0
    assert capsys.readouterr().out == server.text
    assert main(["stop", "mine"]) == 0
    assert "mine: stopped; `selftune submit` with `--output flaky://bucket/tiny`" in capsys.readouterr().out
    assert main(["stop", "mine"]) == 0
    assert "mine: does not run; it is stopped" in capsys.readouterr().out


def test_ctrl_c_leaves_the_job_running_and_says_how_to_find_it(server, capsys, monkeypatch):
    def interrupted(self, position, piece):
        raise KeyboardInterrupt

    monkeypatch.setattr(job_log.JobLog, "_take", interrupted)
    assert main([*SUBMIT]) == 130
    said = capsys.readouterr().err
    assert said.startswith("selftune: stopped; the job goes on; ")
    assert f"`selftune logs mine --address {server.address}`" in said


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (
            ["submit", "tiny.yaml", "--output", "here"],
            "--output: give the whole path of a folder on the cluster's head",
        ),
        (["submit", "tiny.yaml", "--name", "a b"], "--name: must be letters, digits, '-', '_' and '.'; got a b"),
        (["submit", "tiny.yaml", "--env", "secret"], "--env: must be NAME=VALUE"),
        (["submit", "tiny.yaml", "--to", "."], ".: holds something already; choose another folder with --to"),
        (["submit", "nothing.yaml"], "nothing.yaml: there is no such file"),
        (["fetch", "earlier"], "earlier: was not sent by `selftune submit`"),
    ],
)
def test_mistakes_are_sentences_and_nothing_is_sent(server, capsys, arguments, sentence):
    assert main(arguments) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert sentence in line
    assert not server.sent


def test_without_an_address_there_is_nobody_to_ask(place, capsys, monkeypatch):
    monkeypatch.delenv("RAY_API_SERVER_ADDRESS", raising=False)
    assert main([*SUBMIT]) == 2
    assert capsys.readouterr().err == "--address: give that of the cluster's dashboard, such as http://head:8265\n"
    assert main(["status", "mine"]) == 2
    assert capsys.readouterr().err.startswith("mine: is not a folder")


def test_unknown_jobs_are_sentences(server, capsys):
    for command in ("status", "logs", "stop", "fetch"):
        assert main([command, "nothing"]) == 1
        assert "nothing: the cluster at" in capsys.readouterr().err
