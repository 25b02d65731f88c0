"""Jobs of a cluster elsewhere and their logs, with a server that answers as Ray's does, and sometimes does not."""

import pytest
from job_server import JobServer

from selftune.errors import JobError
from selftune.schedulers import job_log
from selftune.schedulers.job_log import JobLog
from selftune.schedulers.jobs import ClusterAway, Jobs, UnknownJob

TEXT = "".join(f"line {number} ä\n" for number in range(40))


@pytest.fixture(autouse=True)
def alone(monkeypatch):
    for name in (
        "RAY_ADDRESS",
        "RAY_API_SERVER_ADDRESS",
        "RAY_AUTH_MODE",
        "RAY_AUTH_TOKEN",
        "RAY_AUTH_TOKEN_PATH",
    ):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(job_log.time, "sleep", lambda seconds: None)


@pytest.fixture
def server():
    with JobServer("tiny", TEXT).serving() as server:
        yield server


def followed(server, patience=600.0):
    shown, said = [], []
    job = JobLog(Jobs(server.address), "tiny", shown.append, said.append).follow(patience)
    return job, "".join(shown), said


def test_a_log_is_shown_to_its_end(server):
    job, shown, said = followed(server)
    assert (job.state, job.status, shown, said) == ("succeeded", 0, TEXT, [])


def test_no_line_is_lost_and_none_comes_twice_where_connections_break(server):
    server.breaks = [30, 0, 100, 99, len(TEXT) - 1]
    job, shown, said = followed(server)
    assert job.is_over
    assert shown == TEXT
    assert server.connections == 6
    assert said[:2] == [
        "the connection to the cluster is lost, and tried again; the job does not need it",
        "the cluster answers again",
    ]


def test_a_cluster_that_is_away_is_waited_for_and_not_for_ever(server):
    jobs = Jobs(server.address)
    shown, said = [], []
    server.away = 5
    JobLog(jobs, "tiny", shown.append, said.append).follow()
    assert "".join(shown) == TEXT
    assert len(said) == 2
    server.away = 1000
    with pytest.raises(ClusterAway):
        JobLog(jobs, "tiny", shown.append, said.append).follow(patience=0.0)


def test_a_job_is_sent_once_under_its_name(server, tmp_path):
    (files := tmp_path / "study.zip").write_bytes(b"zip")
    jobs = Jobs(server.address)
    jobs.send("digits-1", "echo", files, {"kept": "this"}, {"NAME": "value"})
    [sent], [package] = server.sent, server.packages
    assert (sent["entrypoint"], sent["runtime_env"]["env_vars"]) == ("echo", {"NAME": "value"})
    assert package == b"zip"
    assert jobs.job("digits-1").metadata == {"kept": "this"}
    with pytest.raises(
        JobError, match="digits-1: the cluster has a job of this name; give another one with --name"
    ):
        jobs.send("digits-1", "echo", None, {}, {})


def test_unknown_jobs_and_places_without_a_cluster_are_sentences(server):
    jobs = Jobs(server.address.removeprefix("http://"))
    with pytest.raises(UnknownJob, match=r"nothing: the cluster at http://.* knows no such job"):
        jobs.job("nothing")
    with pytest.raises(ClusterAway, match="nobody answers there"):
        Jobs("127.0.0.1:9")


def test_where_a_cluster_is_comes_from_the_argument_alone(server, monkeypatch):
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:9")
    monkeypatch.setenv("RAY_API_SERVER_ADDRESS", "http://127.0.0.1:9")
    assert Jobs(server.address).job("tiny").state == "running"
