"""Commands whose folder is in a store: one in memory, and an S3 server on this machine."""

import dataclasses
import json
import logging
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from flaky_store import FlakyFileSystem

from selftune import remote_command
from selftune.cli import main
from selftune.errors import Stopped
from selftune.storage.lease import Lease, is_asked
from selftune.storage.remote_folder import RemoteFolder
from selftune.studies.driver_record import this_process, write_driver
from selftune.tracking.trajectory import read_trajectory

STUDY = """\
study: tiny
objective: {task: digits, hidden: [8], train_examples: 100, validation_examples: 100}
regularizers:
  dropout: {rate: {start: 0.1}}
method: {name: self_tuning, warmup_steps: 10, checkpoint_every: 2}
budget: {steps: 60}
"""


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "tiny.yaml").write_text(STUDY)
    FlakyFileSystem.clear()
    yield tmp_path
    FlakyFileSystem.clear()


def run(*arguments):
    return main(["run", "tiny.yaml", "--local", "--no-mlflow", *arguments])


def test_a_study_leaves_its_folder_in_a_store_and_every_command_takes_it_from_there(place, capsys):
    address = "flaky://me:s3cret@bucket/tiny"
    assert run("--output", address) == 0
    shown = capsys.readouterr().out
    assert "all of it is in flaky://***@bucket/tiny\n" in shown
    there = RemoteFolder(address).files()
    assert {
        "study.yaml",
        "summary.json",
        "report.html",
        "trajectory.parquet",
        "network.safetensors",
    } <= there.keys()

    assert run("--output", address, "--restart") == 0
    assert "flaky://***@bucket/tiny: is finished" in capsys.readouterr().out
    assert run("--output", address) == 2
    assert "see it with `selftune report flaky://***@bucket/tiny`" in capsys.readouterr().err
    assert main(["status", address]) == 0
    assert "flaky://***@bucket/tiny: finished" in capsys.readouterr().out
    assert main(["stop", address]) == 0
    assert "nothing runs there; it is finished" in capsys.readouterr().out
    assert main(["schedule", address, "--output", "schedule.json"]) == 0
    assert main(["compare", address, address]) == 0
    assert main(["report", address]) == 0
    assert capsys.readouterr().out.endswith("report.html\n")
    assert main(["replay", address, "--final"]) == 0
    assert "replay.json" in RemoteFolder(address).files()
    every = [path.read_bytes() for path in place.rglob("*") if path.is_file() and path.suffix != ".pt"]
    assert not [one for one in every if b"s3cret" in one]


def test_a_store_that_is_away_while_a_study_runs_does_not_stop_it(place, capsys, monkeypatch):
    from selftune.tracking.trajectory import TrajectoryWriter

    told = TrajectoryWriter.hyper_step

    def hyper_step(self, step):
        FlakyFileSystem.is_away = 2 <= step.number <= 5
        told(self, step)

    monkeypatch.setattr(TrajectoryWriter, "hyper_step", hyper_step)
    assert run("--output", "flaky://bucket/tiny") == 0
    assert json.loads(RemoteFolder("flaky://bucket/tiny").read("summary.json"))["status"] == "finished"


@pytest.mark.parametrize("command", ["run", "resume", "status", "report", "replay", "sync"])
def test_a_store_that_refuses_is_a_sentence_and_nothing_begins(place, capsys, command):
    FlakyFileSystem.is_away = True
    arguments = ["tiny.yaml", "--local", "--output"] if command == "run" else []
    assert main([command, *arguments, "flaky://me:s3cret@bucket/tiny"]) == 2
    assert capsys.readouterr().err == "flaky://***@bucket/tiny: the network is down\n"
    FlakyFileSystem.is_away = False
    assert RemoteFolder("flaky://bucket/tiny").files() == {}


@pytest.mark.parametrize("command", ["resume", "status", "report"])
def test_an_address_without_a_run_is_a_sentence_and_stays_as_it_is(place, capsys, command):
    assert main([command, "flaky://bucket/nothing"]) == 2
    assert capsys.readouterr().err.startswith("flaky://bucket/nothing: ")
    assert RemoteFolder("flaky://bucket/nothing").files() == {}


def test_a_folder_that_another_process_has_is_refused(place, capsys):
    Lease(RemoteFolder("flaky://bucket/tiny")).acquire()
    assert run("--output", "flaky://bucket/tiny") == 2
    assert "flaky://bucket/tiny: another process runs it: process" in capsys.readouterr().err


def test_a_run_elsewhere_is_seen_and_asked_to_stop_through_the_store(place, capsys, monkeypatch):
    remote = RemoteFolder("flaky://bucket/tiny")
    Lease(remote).acquire()
    (place / "driver").mkdir()
    write_driver(place / "driver", dataclasses.replace(this_process(), namespace="", began=0.0))
    remote.write("driver.json", (place / "driver" / "driver.json").read_bytes())
    assert main(["status", "flaky://bucket/tiny"]) == 0
    assert capsys.readouterr().out.startswith("flaky://bucket/tiny: running for")
    assert main(["stop", "flaky://bucket/tiny", "--no-wait"]) == 0
    assert capsys.readouterr().out == "flaky://bucket/tiny: asked to stop; it finishes the hyper-step first\n"
    assert is_asked(remote)
    assert main(["status", "flaky://bucket/tiny"]) == 0
    assert capsys.readouterr().out.startswith("flaky://bucket/tiny: stopping")


def test_a_store_has_the_rest_of_the_grace_period_to_get_the_end_of_a_run():
    def left(error):
        return remote_command._patience(error)

    assert left(None) == left(Stopped()) == 600
    assert left(KeyboardInterrupt()) == 5
    assert 50 < left(Stopped(status=143, until=time.monotonic() + 60)) <= 60
    assert left(Stopped(status=143, until=time.monotonic() - 60)) == 5


@pytest.fixture
def bucket(monkeypatch):
    """The address of an S3 bucket on this machine."""
    import boto3
    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(port=0, verbose=False)
    server.start()
    _, port = server.get_host_and_port()
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "s3cret")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{port}")
    boto3.client("s3").create_bucket(Bucket="bucket")
    yield "s3://bucket"
    server.stop()


KILLED = """
import os, signal, time
from selftune.cli import main
from selftune.storage import mirror, working_copy
from selftune.tracking.trajectory import TrajectoryWriter
told = TrajectoryWriter.hyper_step
mirrors = []
class Mirror(mirror.Mirror):
    def __init__(self, folder, remote, check, known, every):
        super().__init__(folder, remote, check, known, 0.05)
        mirrors.append(self)
working_copy.Mirror = Mirror
def hyper_step(self, step):
    told(self, step)
    if step.number == 6:
        while not any(name.endswith("checkpoint.safetensors") for name in [*mirrors[0]._known]):
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGKILL)
TrajectoryWriter.hyper_step = hyper_step
main(["run", "tiny.yaml", "--local", "--no-mlflow", "--output", "s3://bucket/runs/tiny"])
"""


def test_a_killed_study_goes_on_from_s3_on_a_fresh_machine_to_the_same_trajectory(
    place, bucket, capsys, monkeypatch
):
    assert run("--output", "undisturbed") == 0
    process = subprocess.run([sys.executable, "-c", KILLED], check=False, timeout=300)
    assert process.returncode == -signal.SIGKILL
    monkeypatch.setenv("XDG_CACHE_HOME", str(place / "fresh"))
    assert main(["status", f"{bucket}/runs/tiny", "--json"]) == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["state"] == "killed"
    assert main(["resume", f"{bucket}/runs/tiny", "--no-mlflow"]) == 0
    [folder] = (place / "fresh" / "selftune" / "runs").glob("*/tiny")
    assert "goes on" in (folder / "logs" / "driver.log").read_text()
    first, second = read_trajectory(place / "undisturbed"), read_trajectory(folder)
    assert len(first.hyper_step) > 6
    assert np.array_equal(first.values, second.values)
    for name in ("summary.json", "trajectory.parquet", "network.safetensors"):
        assert RemoteFolder(f"{bucket}/runs/tiny").read(name) == (folder / name).read_bytes()
