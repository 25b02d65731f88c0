"""The cluster of a running study, seen by a process without its token, and after its driver was killed."""

import os
import signal
import stat
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import pytest
from ray._private.utils import psutil  # the one that Ray brings
from services.intruder import UNAUTHENTICATED, UNIMPLEMENTED, grpc_status, http_status, tells_numbers

from selftune.tracking.trajectory import read_trajectory

pytestmark = pytest.mark.timeout(300)  # a busy machine is no failure

STUDY = """\
study: endless
objective: {task: digits, hidden: [8], train_examples: 100}
regularizers: {dropout: {rate: {start: 0.1}}}
method: {name: self_tuning, warmup_steps: 1, checkpoint_every: 1000}
trainers: {number: 1, cpus: 0.5}
budget: {steps: 100000000}
"""

# one method of each kind of server, of those that run code, move data, or say what is there
METHODS = (
    "/ray.rpc.NodeInfoGcsService/GetAllNodeInfo",
    "/ray.rpc.JobInfoGcsService/AddJob",
    "/ray.rpc.NodeManagerService/GetNodeStats",
    "/ray.rpc.NodeManagerService/RequestWorkerLease",
    "/ray.rpc.ObjectManagerService/Pull",
    "/ray.rpc.CoreWorkerService/PushTask",
    "/ray.rpc.ReporterService/CpuProfiling",
)
HTTP = {"ray::RuntimeEnvAgent": "/get_or_create_runtime_env", "ray::DashboardAgent": "/api/job_agent/jobs/"}
"""A request of each process that listens for HTTP."""


def wait_for(condition, seconds=250.0):
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, "not in time"
        time.sleep(0.1)
    return found


@dataclass
class Listener:
    kind: str
    address: str
    port: int


@dataclass
class Running:
    driver: subprocess.Popen
    session: Path
    processes: list[psutil.Process]
    listeners: list[Listener]

    @property
    def token(self):
        return (self.session / "token").read_text()


def session_of(driver):
    """The folder that the driver made for its cluster: its watchdog was told."""
    for child in driver.children():
        if any(part.endswith("watchdog.py") for part in child.cmdline()):
            return Path(child.cmdline()[-3])
    raise AssertionError("no watchdog")


def listeners_of(process):
    kind = process.name() if process.name().startswith("ray::") else Path(process.exe()).name
    for connection in process.net_connections(kind="tcp"):
        if connection.status == psutil.CONN_LISTEN:
            yield Listener(kind, connection.laddr.ip, connection.laddr.port)


def alive(process):
    try:
        return process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


@pytest.fixture(scope="module")
def running(tmp_path_factory):
    place = tmp_path_factory.mktemp("study")
    (place / "study.yaml").write_text(STUDY)
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    driver = subprocess.Popen(
        [sys.executable, "-m", "selftune.cli", "run", "study.yaml", "--no-mlflow", "--output", "out"],
        cwd=place,
        env=inherited | {"HOME": "/dev/null/home", "OMP_NUM_THREADS": "1"},  # a home that cannot be written
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )

    def trains():
        assert driver.poll() is None, driver.stderr.read()
        return (place / "out" / "trajectory.arrows").exists() and len(read_trajectory(place / "out"))

    try:
        wait_for(trains)
        process = psutil.Process(driver.pid)
        processes = [process, *process.children(recursive=True)]
        listeners = [listener for one in processes for listener in listeners_of(one)]
        yield Running(driver, session_of(process), processes, listeners)
    finally:
        driver.kill()
        driver.wait()
        driver.stderr.close()


def test_every_kind_of_listener_is_there_and_on_the_loopback_interface(running):
    kinds = [listener.kind for listener in running.listeners]
    assert {"gcs_server", "raylet", "ray::RuntimeEnvAgent"} < set(kinds)
    assert any(kind.startswith("python") for kind in kinds)  # the driver
    assert any(kind.startswith("ray::") and not kind.endswith("Agent") for kind in kinds)  # workers
    assert {listener.address.removeprefix("::ffff:") for listener in running.listeners} == {"127.0.0.1"}


@pytest.mark.parametrize("token", [None, "0" * 64])
def test_no_listener_answers_without_the_token(running, token):
    for listener in running.listeners:
        if tells_numbers(listener.port):
            assert listener.kind == "ray::DashboardAgent" or listener.kind.startswith("python")
            continue
        path = HTTP.get(listener.kind)
        if path and (status := http_status(listener.port, path, token)) is not None:
            assert status == (403 if token else 401)
            assert http_status(listener.port, path, running.token) not in (401, 403)
            continue
        answers = [grpc_status(listener.port, method, token) for method in METHODS]
        assert set(answers) == {UNAUTHENTICATED, UNIMPLEMENTED}, listener
        method = METHODS[answers.index(UNAUTHENTICATED)]
        assert grpc_status(listener.port, method, running.token) not in (UNAUTHENTICATED, UNIMPLEMENTED)


def test_rays_own_client_is_refused_without_the_token(running):
    (gcs,) = [listener for listener in running.listeners if listener.kind == "gcs_server"]
    script = (
        "from ray._raylet import GcsClient\n"
        "from ray.exceptions import AuthenticationError\n"
        "try:\n"
        f"    GcsClient(address='127.0.0.1:{gcs.port}').internal_kv_get(b'key', None, 30)\n"
        "except AuthenticationError:\n"
        "    raise SystemExit(7)\n"
    )
    plain = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    refused = subprocess.run([sys.executable, "-c", script], env=plain, capture_output=True, text=True)
    assert refused.returncode == 7, refused.stderr
    shown = plain | {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(running.session / "token")}
    admitted = subprocess.run([sys.executable, "-c", script], env=shown, capture_output=True, text=True)
    assert admitted.returncode == 0, admitted.stderr


def test_files_and_unix_sockets_are_closed_to_other_users(running):
    assert stat.S_IMODE(running.session.stat().st_mode) == 0o700
    assert stat.S_IMODE((running.session / "token").stat().st_mode) == 0o600
    assert list(running.session.glob("ray/session_*/sockets/*"))


def test_nothing_outlives_a_killed_driver(running):
    running.driver.send_signal(signal.SIGKILL)
    running.driver.wait()
    wait_for(lambda: not any(alive(process) for process in running.processes[1:]), seconds=20)
    wait_for(lambda: not running.session.exists(), seconds=20)
