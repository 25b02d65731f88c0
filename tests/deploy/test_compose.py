"""The compose file: what it refuses, and what its services do as processes of this machine."""

import contextlib
import os
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

import boto3
import mlflow
import pytest
import yaml
from deploy.compose import HOSTS, Loopback, MissingVariable, services
from deploy.dockerfile import stages
from mlflow.cli import server
from mlflow.server.security_utils import is_allowed_host_header
from ray.scripts.scripts import start
from services.object_store import object_store
from services.postgresql import postgresql
from services.processes import running, wait_for, wait_until

ROOT = Path(__file__).parent.parent.parent
FILE = ROOT / "deploy" / "compose.yaml"
CREDENTIALS = {
    "POSTGRESQL_PASSWORD": "password-of-a-test",
    "S3_ACCESS_KEY_ID": "user-of-a-test",
    "S3_SECRET_ACCESS_KEY": "secret-of-a-test",
    "RAY_AUTH_TOKEN": "token-of-a-test-0123456789abcdef",
}
STUDY = """\
study: digits
objective: {task: digits}
regularizers:
  dropout: {rate: {start: 0.05}}
method: {name: self_tuning}
trainers: {number: 2, cpus: 1, gpus: 0}
budget: {steps: 300}
metric: validation_loss
"""


@pytest.mark.parametrize("name", CREDENTIALS)
@pytest.mark.parametrize("empty", [False, True], ids=["missing", "empty"])
def test_a_missing_credential_is_refused(name, empty):
    given = {**CREDENTIALS, name: ""} if empty else {key: CREDENTIALS[key] for key in CREDENTIALS if key != name}
    with pytest.raises(MissingVariable, match=f"^set {name} in deploy/.env, the "):
        services(FILE, given)


def test_the_example_names_every_variable_and_gives_no_secret():
    example = (ROOT / "deploy" / ".env.example").read_text(encoding="utf-8")
    set_there = dict(re.findall(r"^(\w+)=(.*)$", example, re.MULTILINE))
    assert set_there == dict.fromkeys(CREDENTIALS, "")
    used = set(re.findall(r"\$\{(\w+)", FILE.read_text(encoding="utf-8")))
    of_one_study = {"STUDY", "STUDY_NAME"}
    assert set(re.findall(r"^#?(\w+)=", example, re.MULTILINE)) == used - of_one_study


def test_no_secret_is_in_a_command():
    for service in services(FILE, CREDENTIALS).values():
        assert not [
            part for part in service.get("command", []) for secret in CREDENTIALS.values() if secret in part
        ]


def test_only_this_machine_reaches_what_is_published():
    published = [port for service in services(FILE, CREDENTIALS).values() for port in service.get("ports", [])]
    assert published
    assert all(port.startswith("127.0.0.1:") for port in published)


def test_mlflow_answers_those_that_call_it():
    every = services(FILE, CREDENTIALS)
    (option,) = [part for part in every["mlflow"]["command"] if part.startswith("--allowed-hosts=")]
    hosts = option.partition("=")[2].split(",")
    client = every["ray-head"]["environment"]["MLFLOW_TRACKING_URI"].removeprefix("http://")
    assert all(is_allowed_host_header(hosts, host) for host in (client, "localhost:5000", "127.0.0.1:5000"))
    assert not is_allowed_host_header(hosts, "elsewhere.example:5000")


def test_hosts_that_are_named_are_services():
    text = yaml.safe_dump(services(FILE, CREDENTIALS))
    named = {host for host, _ in re.findall(r"\b([a-z][\w-]+):(\d{4})\b", text)} - {"localhost"}
    assert named == set(HOSTS) <= set(services(FILE, CREDENTIALS))


@pytest.mark.parametrize("name", ["ray-head", "ray-worker"])
def test_ray_has_the_options(name):
    program, action, *options = services(FILE, CREDENTIALS)[name]["command"]
    assert (program, action) == ("ray", "start")
    assert start.make_context("ray start", options).params["block"]


def test_mlflow_has_the_options():
    program, action, *options = services(FILE, CREDENTIALS)["mlflow"]["command"]
    assert (program, action) == ("mlflow", "server")
    assert server.make_context("mlflow server", options).params["serve_artifacts"]


class Cluster:
    """The services of the compose file that are selftune's image, each as a process in the image's tree."""

    def __init__(self, image, loopback, variables):
        self.image = image
        self.loopback = loopback
        self.services = services(FILE, variables)
        _, (_, final) = stages(ROOT / "deploy" / "Dockerfile")
        (self.check,) = re.findall(r"CMD (\[.*\])", final.all("HEALTHCHECK")[0])
        self.folder = Path(tempfile.mkdtemp(prefix="st-"))  # short: Ray's sockets are below it
        self.user = 1000 if os.geteuid() == 0 else None
        if self.user:
            os.chown(self.folder, self.user, self.user)

    def environment(self, name):
        mapped = {
            key: self.loopback.mapped(str(value)) for key, value in self.services[name]["environment"].items()
        }
        return {**self.image.variables, **mapped, "RAY_TMPDIR": str(self.folder), "RAY_worker_niceness": "0"}

    def command(self, name, loopback, *more):
        return [*map(loopback.mapped, self.services[name]["command"]), *more]

    def finished(self, name, seconds=300):
        """What a service that ends has printed."""
        done = subprocess.run(
            self.command(name, self.loopback),
            env=self.environment(name),
            cwd=self.folder,
            user=self.user,
            group=self.user,
            extra_groups=[] if self.user else None,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=seconds,
        )
        assert done.returncode == 0, f"{done.stdout[-6000:]}\n{self.logs()}"
        return done.stdout

    @contextlib.contextmanager
    def started(self, name):
        """A service that goes on, once its health check says so."""
        loopback, more = self.loopback, []
        if name.startswith("ray-"):
            # Nodes on one machine share its ports; in compose's network each has its own.
            loopback = Loopback()
            for port in (6379, 8265):
                loopback.known(port, self.loopback.port(port))
            more = ["--node-ip-address=127.0.0.1", f"--dashboard-agent-listen-port={loopback.port(52365)}"]
            more += [f"--temp-dir={self.folder}/{name}"]  # each has files of its own, too
        test = self.services[name].get("healthcheck", {}).get("test") or ["CMD", *yaml.safe_load(self.check)]
        log = self.folder / f"{name}.log"
        with running(self.command(name, loopback, *more), log, self.environment(name), self.user) as process:
            check = [loopback.mapped(part) for part in test[1:]]
            wait_for(process, lambda: subprocess.run(check, capture_output=True).returncode == 0, log, 240)
            yield

    def logs(self):
        return "\n".join(
            f"{log.name}:\n{log.read_text(errors='replace')[-3000:]}" for log in self.folder.glob("*.log")
        )

    def processes(self):
        """Programs of the image that run."""
        found = []
        for command in Path("/proc").glob("[0-9]*/cmdline"):
            with contextlib.suppress(OSError):
                if str(self.image.root) in (
                    text := command.read_bytes().replace(b"\0", b" ").decode(errors="replace")
                ):
                    found.append(text)
        return found


def metrics():
    """Names of all metrics of all runs."""
    experiments = [found.experiment_id for found in mlflow.search_experiments()]
    return {name for run in mlflow.search_runs(experiments, output_format="list") for name in run.data.metrics}


@pytest.mark.integration
@pytest.mark.timeout(1800)
def test_a_study_runs_on_the_services(image, tmp_path, monkeypatch):
    study = image.root / "study.yaml"
    study.write_text(STUDY)
    loopback = Loopback()
    cluster = Cluster(image, loopback, {**CREDENTIALS, "STUDY": str(study), "STUDY_NAME": "of-a-test"})
    try:
        with (
            postgresql(CREDENTIALS["POSTGRESQL_PASSWORD"]) as database,
            object_store(tmp_path) as store,
            contextlib.ExitStack() as stack,
        ):
            loopback.known(5432, database.port)
            loopback.known(9000, int(store.rpartition(":")[2]))
            cluster.finished("buckets")
            cluster.finished("buckets")  # as compose does at every start
            for name in ("mlflow", "ray-head", "ray-worker"):
                stack.enter_context(cluster.started(name))
            assert "300/300 training steps" in cluster.finished("study", 900)

            with database.connection() as connection:
                (runs,) = connection.execute("select count(*) from runs").fetchone()
            assert runs >= 1
            monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{loopback.port(5000)}")
            # A process of its own sends them, and may be some seconds behind.
            wait_until(lambda: "hypergradient/dropout.rate" in metrics(), "the metrics in MLflow")
            client = boto3.client(
                "s3", endpoint_url=store, aws_access_key_id="a", aws_secret_access_key="b", region_name="us-east-1"
            )
            kept = [entry["Key"] for entry in client.list_objects_v2(Bucket="mlflow")["Contents"]]
            assert kept
            results = [entry["Key"] for entry in client.list_objects_v2(Bucket="selftune")["Contents"]]
            assert "of-a-test/summary.json" in results
        wait_until(lambda: not cluster.processes(), "the end of all processes", 120)
    finally:
        shutil.rmtree(cluster.folder)
