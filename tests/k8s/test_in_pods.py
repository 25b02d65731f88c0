"""The small programs that pods run beside selftune itself."""

import http.server
import json
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from services.object_store import object_store

from selftune.kubernetes import buckets, end_driver, wait_for_workers

DRIVER = """\
import pathlib, signal, sys, time
def end(*_):
    pathlib.Path({ended!r}).touch()
    sys.exit(143)
signal.signal(signal.SIGTERM, end if {heeds} else signal.SIG_IGN)
print("runs", flush=True)
time.sleep(60)
"""


@pytest.fixture
def driver(tmp_path):
    """A process that looks like a study's driver: its command is that of a job, run by a shell."""
    started = []

    def start(*words, heeds=True):
        script = tmp_path / "bin" / "selftune"
        script.parent.mkdir(exist_ok=True)
        script.write_text(DRIVER.format(ended=str(tmp_path / "ended"), heeds=heeds))
        process = subprocess.Popen([sys.executable, str(script), *words], stdout=subprocess.PIPE)
        assert process.stdout.readline() == b"runs\n"
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.wait()
        process.stdout.close()


STUDY = ("run", "/etc/selftune/study/study.yaml", "--output", "s3://selftune/digits")


def test_a_driver_is_asked_to_end_and_waited_for(driver, tmp_path):
    process = driver(*STUDY)
    threading.Thread(target=process.wait).start()  # as the shell of a job does
    assert end_driver.main(["--grace", "60"]) == 0
    assert process.wait() == 143
    assert (tmp_path / "ended").exists()


def test_one_that_takes_longer_is_left_behind(driver):
    process = driver(*STUDY, heeds=False)
    assert end_driver.end_drivers(Path("/proc"), grace=0.5) is False
    assert process.poll() is None


@pytest.mark.parametrize(
    "words", [("status", "/etc/selftune/study/study.yaml"), ("run", "/home/study.yaml"), ("run",)]
)
def test_others_are_left_alone(driver, words):
    process = driver(*words)
    assert end_driver.end_drivers(Path("/proc"), grace=5) is True
    assert process.poll() is None


class Dashboard(http.server.BaseHTTPRequestHandler):
    """Ray's state API, as it answers with a token."""

    def do_GET(self):
        self.server.asked += 1
        if self.headers["Authorization"] != "Bearer secret":
            self.send_error(401)
        elif self.server.asked < self.server.ready_after:
            self.send_error(503)
        else:
            self.send_response(200)
            self.end_headers()
            nodes = [{"state": state, "is_head_node": is_head} for state, is_head in self.server.nodes]
            self.wfile.write(json.dumps({"result": True, "data": {"result": {"result": nodes}}}).encode())

    def log_message(self, *_):
        pass


@pytest.fixture
def dashboard(monkeypatch):
    monkeypatch.setattr(wait_for_workers, "_LOOK", 0.01)
    monkeypatch.setenv("RAY_AUTH_TOKEN", "secret")
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Dashboard) as server:
        server.asked, server.ready_after = 0, 0
        server.nodes = [("ALIVE", True), ("ALIVE", False), ("DEAD", False), ("ALIVE", False)]
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def address(server):
    return f"http://127.0.0.1:{server.server_port}"


def test_the_command_waits_until_the_workers_are_there(dashboard):
    dashboard.ready_after = 3
    assert wait_for_workers.wait(2, 60, address(dashboard)) == 2
    assert dashboard.asked == 3


def test_it_goes_on_without_those_that_do_not_come(dashboard, capsys):
    assert wait_for_workers.main(["3", "--patience", "0.2", "--dashboard", address(dashboard)]) == 0
    assert capsys.readouterr().out == "2 of 3 workers are there after 0.2 seconds\n"


def test_without_the_token_nobody_is_seen(dashboard, monkeypatch):
    monkeypatch.setenv("RAY_AUTH_TOKEN", "wrong")
    assert wait_for_workers.wait(1, 0.05, address(dashboard)) == 0


def test_missing_buckets_are_made(tmp_path, monkeypatch, capsys):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    with object_store(tmp_path) as store:
        monkeypatch.setenv("AWS_ENDPOINT_URL", store)
        assert buckets.main(["mlflow", "selftune"]) == 0
        assert capsys.readouterr().out == "mlflow: made\nselftune: made\n"
        assert buckets.main(["selftune"]) == 0
        assert capsys.readouterr().out == "selftune: is there\n"
