"""Every listener of a cluster and of the servers beside it, and what each of them answers to a stranger."""

import re
import subprocess
from pathlib import Path

import psycopg
import pytest
from ray._private.utils import psutil  # the one that Ray brings
from services.intruder import UNAUTHENTICATED, UNIMPLEMENTED, grpc_status, http_status
from services.processes import wait_until

pytestmark = [pytest.mark.integration, pytest.mark.timeout(540)]  # a busy machine is no failure

PAGE = Path(__file__).parents[2] / "docs" / "listeners.md"
LOOPBACK = "127.0.0.1"

STUDY = """\
study: listening
objective: {task: digits, hidden: [8], train_examples: 100}
regularizers: {dropout: {rate: {start: 0.1}}}
method: {name: self_tuning, warmup_steps: 1}
trainers: {number: 2, cpus: 1}
budget: {steps: 1000000}
"""

FIXED_PORTS = {("dashboard.py", "metrics"), ("monitor.py", "metrics")}

GRPC = (
    "/ray.rpc.NodeInfoGcsService/GetAllNodeInfo",
    "/ray.rpc.NodeManagerService/GetNodeStats",
    "/ray.rpc.ObjectManagerService/Pull",
    "/ray.rpc.CoreWorkerService/PushTask",
    "/ray.rpc.ReporterService/CpuProfiling",
)
"""A method of each kind of server, of those that run code, move data, or say what is there."""
HTTP = ("/api/jobs/", "/api/job_agent/jobs/", "/get_or_create_runtime_env")
"""Requests that run code, one of each kind of server."""


def listeners():
    """Address, port and process of every socket that this process or one below it listens on."""
    below = {one.pid: one for one in psutil.Process().children(recursive=True)}
    for line in subprocess.run(["ss", "-tlnpH"], capture_output=True, text=True, check=True).stdout.splitlines():
        place = line.split()[3]
        address, _, port = place.rpartition(":")
        for pid in {int(found) for found in re.findall(r"pid=(\d+)", line)} & below.keys():
            yield address.strip("[]").removeprefix("::ffff:"), int(port), below[pid]
            break


def kind(process):
    """What a process is called on the page."""
    line = process.cmdline()
    words = " ".join(line)
    if Path(line[0]).name in ("gcs_server", "raylet"):
        return Path(line[0]).name
    if process.name().startswith("postgres"):
        return "postgres"
    for known in ("ray::DashboardAgent", "ray::RuntimeEnvAgent"):
        if known in words:
            return known
    if words.startswith("ray::"):
        return "ray::..."
    for part, name in (
        ("selftune.cli", "selftune run"),
        ("dashboard/dashboard.py", "dashboard.py"),
        ("monitor.py", "monitor.py"),
        ("mlflow", "mlflow server"),
        ("uvicorn", "mlflow server"),
        ("moto.server", "moto_server"),
    ):
        if part in words:
            return name
    return words[:60]


def answer(port, token=None):
    """What the listener is, and what somebody with a token, or without one, gets of it."""
    if http_status(port, "/metrics", token, method="GET") == 200 and http_status(port, "/x", method="GET") == 200:
        return "metrics", "answered"
    statuses = [http_status(port, path, token) for path in HTTP]
    if None not in statuses:
        return "HTTP", "refused" if {401, 403} & {*statuses} else "answered"
    found = [grpc_status(port, method, token) for method in GRPC]
    return "gRPC", "refused" if {*found} == {UNAUTHENTICATED, UNIMPLEMENTED} else "answered"


def stranger(port, process):
    """What a client without token or password gets."""
    if process != "postgres":
        return answer(port)
    with pytest.raises(psycopg.OperationalError, match="password"):
        psycopg.connect(host=LOOPBACK, port=port, user="mlflow", dbname="mlflow", connect_timeout=10)
    return "PostgreSQL", "refused"


def on_the_page():
    """The rows of the page's table, as they are measured."""
    row = r"^\| [^|]+ \| `([^`]+)` \| ([^|]+) \| `([^`]+)` \| (\w+)"
    rows = re.findall(row, PAGE.read_text(), re.MULTILINE)
    assert len(rows) > 8
    return {*rows}


@pytest.fixture(scope="module")
def found(user, cluster, servers, tmp_path_factory):
    """Rows as on the page, and the listeners that they are about, while a study trains on both nodes."""
    place = tmp_path_factory.mktemp("listening")
    (place / "study.yaml").write_text(STUDY)
    user.run(place, "submit", "study.yaml", "--name", "listening", "--no-wait", "--no-mlflow")
    wait_until(lambda: "hyper-step" in cluster.log("listening"), "the first hyper-step", 300)
    seen = [(address, port, kind(process)) for address, port, process in listeners()]
    rows = {}
    for address, port, process in seen:
        rows[port] = (process, *_row(address, port, process))
    yield rows
    user.run(place, "stop", "listening")


def _row(address, port, process):
    protocol, gets = stranger(port, process)
    return protocol, address, gets


def test_the_page_has_every_listener_and_what_a_stranger_gets(found):
    measured, page = {*found.values()}, on_the_page()
    taken = {row for row in page if row[:2] in FIXED_PORTS}  # by another cluster on this machine, if there is one
    assert measured | taken == page, f"of {len(found)} listeners"


def test_ray_refuses_everybody_without_its_token_and_a_wrong_one(found, cluster):
    of_ray = [port for port, (process, protocol, _, _) in found.items() if protocol in ("HTTP", "gRPC")]
    for port in of_ray:
        process, protocol, _, gets = found[port]
        if process in ("mlflow server", "moto_server"):
            continue
        assert gets == "refused", (process, protocol)
        assert answer(port, "0" * 64)[1] == "refused", (process, protocol)
        if process in ("gcs_server", "dashboard.py"):  # an empty request is no harm there
            assert answer(port, cluster.token.read_text())[1] == "answered", (process, protocol)


def test_everything_listens_on_the_loopback_interface(found):
    assert {address for _, _, address, _ in found.values()} == {LOOPBACK}


def test_the_token_is_on_no_command_line_and_in_no_log(found, cluster):
    token = cluster.token.read_text()
    for process in psutil.process_iter():
        try:
            assert token not in " ".join(process.cmdline())
        except psutil.NoSuchProcess:
            continue
    logs = [path for path in cluster.session.parent.parent.rglob("*") if path.is_file() and path != cluster.token]
    assert len(logs) > 20
    assert not [path for path in logs if token.encode() in path.read_bytes()]
