"""What reaches an MLflow server, and what happens when there is none."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
from contextlib import ExitStack
from itertools import pairwise
from pathlib import Path
from typing import Any

import mlflow.pytorch
import pytest
import torch
from mlflow import MlflowClient
from mlflow.entities import Run
from torch import nn

from selftune.storage.checked_json import read_json, write_json
from selftune.storage.files import DamagedFile
from selftune.storage.state_file import save_state
from selftune.tracking import sync as sync_module
from selftune.tracking.record import PasswordMissing, Record, tracking_uri
from selftune.tracking.report import write_report
from selftune.tracking.summary import read_summary, write_summary
from selftune.tracking.sync import SyncError, main, sync
from selftune.tracking.trajectory import read_trajectory


def runs(uri: str, experiment: str = "selftune") -> dict[str, Run]:
    """Runs by their role; an error if one is there twice."""
    client = MlflowClient(uri)
    found = client.search_runs([client.get_experiment_by_name(experiment).experiment_id])
    by_role = {run.data.tags["selftune.run"]: run for run in found}
    assert len(by_role) == len(found)
    return by_role


def history(uri: str, run: Run, key: str) -> list[tuple[int, float]]:
    return [(m.step, m.value) for m in MlflowClient(uri).get_metric_history(run.info.run_id, key)]


def artifacts(uri: str, run: Run, folder: str | None = None) -> set[str]:
    return {file.path for file in MlflowClient(uri).list_artifacts(run.info.run_id, folder)}


@pytest.fixture
def address_of_nobody() -> str:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{taken.getsockname()[1]}"


def test_a_study_becomes_a_run_with_nested_runs(study: Path, tracking: str) -> None:
    write_report(study)
    sync(study)
    found = runs(tracking)
    parent = found["study"]
    trajectory = read_trajectory(study)

    assert set(found) == {"study", "trainer 0", "trainer 1"}
    assert parent.info.run_name == "digits"
    assert {run.info.status for run in found.values()} == {"FINISHED"}
    assert found["trainer 1"].data.tags["mlflow.parentRunId"] == parent.info.run_id
    assert "mlflow.parentRunId" not in parent.data.tags

    assert parent.data.params["objective.batch_size"] == "64"
    assert float(parent.data.params["start/dropout.rate/input"]) == pytest.approx(
        trajectory.values[0, 0], rel=1e-5
    )
    assert history(tracking, parent, "validation_loss") == list(
        zip(trajectory.training_step, trajectory.validation_loss, strict=True)
    )
    assert [step for step, _ in history(tracking, parent, "value/weight_decay.strength/layers.0")] == list(
        range(10, 410, 10)
    )
    assert parent.data.metrics["tuned/test_loss"] == 0.171
    assert len(history(tracking, found["trainer 0"], "training_loss")) == 40
    assert len(history(tracking, found["trainer 0"], "validation_accuracy")) == 10

    assert artifacts(tracking, parent) == {
        "study.yaml",
        "summary.json",
        "report.html",
        "trajectory.parquet",
        "trainers.parquet",
        "plots",
    }
    assert "plots/losses.svg" in artifacts(tracking, parent, "plots")


def test_the_best_network_has_measures_and_a_file_of_its_own(study: Path, tracking: str) -> None:
    state = {"weight": torch.ones(1)}
    save_state(study / "best_network.safetensors", state, "network")
    measures = {"validation_loss": 0.18, "test_loss": 0.17}
    best: Any = {"metric": "validation_loss", "value": 0.19, "hyper_step": 12, "training_step": 120}
    write_summary(study, {**read_summary(study), "best": {**best, "hyperparameters": {}, "measures": measures}})
    sync(study)
    parent = runs(tracking)["study"]
    assert parent.data.metrics["best/test_loss"] == 0.17
    assert parent.data.metrics["best/hyper_step"] == 12
    assert "best_network.safetensors" in artifacts(tracking, parent)


def test_the_network_is_a_logged_model_that_loads(study: Path, tracking: str) -> None:
    original = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))
    sync(study, network=lambda folder: original)
    parent = runs(tracking)["study"]
    client = MlflowClient(tracking)
    (model,) = client.search_logged_models([parent.info.experiment_id])
    assert model.source_run_id == parent.info.run_id
    assert [output.model_id for output in parent.outputs.model_outputs] == [model.model_id]
    mlflow.set_tracking_uri(tracking)
    network = mlflow.pytorch.load_model(model.model_uri)
    images = torch.ones(2, 3)
    assert torch.equal(network(images), original(images))
    requirements = (Path(model.artifact_location) / "requirements.txt").read_text().split()
    assert [line.split("==")[0] for line in requirements if not line.startswith("mlflow")] == ["torch"]


def test_what_was_sent_is_not_sent_again(tmp_path: Path, tracking: str, fabricate: Any) -> None:
    folder = tmp_path / "growing"
    writer = fabricate.fill(folder, range(5))
    sync(folder)
    assert runs(tracking)["study"].info.status == "RUNNING"
    record = (folder / "mlflow.json").read_text()
    sync(folder)
    assert (folder / "mlflow.json").read_text() == record

    writer.ended()
    fabricate.finish(folder, fabricate.fill(folder, range(3, 8)), steps=8)  # resumed from an earlier checkpoint
    sync(folder)
    found = runs(tracking)
    assert [step for step, _ in history(tracking, found["study"], "training_loss")] == list(range(10, 90, 10))
    assert [step for step, _ in history(tracking, found["trainer 1"], "training_loss")] == list(range(10, 90, 10))
    assert found["study"].info.status == "FINISHED"


def test_killed_between_sending_and_recording(study: Path, tracking: str) -> None:
    sync(study)
    content = read_json(study / "mlflow.json")
    destination = content["destinations"][tracking]
    destination["runs"] = {"study": destination["runs"]["study"] | {"sent": 10}}
    write_json(study / "mlflow.json", content)
    sync(study)
    found = runs(tracking)
    assert set(found) == {"study", "trainer 0", "trainer 1"}
    assert len(history(tracking, found["study"], "validation_loss")) == 40
    assert len(history(tracking, found["trainer 0"], "training_loss")) == 40


def test_a_server_that_is_away_gets_everything_later(
    study: Path,
    tracking: str,
    address_of_nobody: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", address_of_nobody)
    assert main([str(study)]) == 1
    told = capsys.readouterr()
    assert told.err == f"could not reach {address_of_nobody}; send later with `selftune sync {study}`\n"
    assert told.out == ""
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    assert tracking_uri(study) == address_of_nobody  # where the study wanted to go

    monkeypatch.setenv("MLFLOW_TRACKING_URI", tracking)
    assert main([str(study)]) == 0
    assert len(history(tracking, runs(tracking)["study"], "validation_loss")) == 40


def test_following_sends_while_the_study_runs(
    tmp_path: Path, tracking: str, fabricate: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "digits"
    folder.mkdir()
    (folder / "study.yaml").write_text(fabricate.settings)
    write_summary(folder, {"status": "running"})
    seen: list[tuple[str, int]] = []
    open_writers: list[Any] = []

    def study_goes_on(seconds: float) -> None:  # while the follower sleeps
        run = runs(tracking)["study"]
        seen.append((run.info.status, len(history(tracking, run, "training_loss"))))
        now[0] += 60.0
        if len(seen) == 1:
            open_writers.append(fabricate.fill(folder, range(4)))
        elif len(seen) == 2:
            fabricate.finish(folder, open_writers[0], steps=4)

    now = [0.0]
    monkeypatch.setattr(sync_module, "_pause", study_goes_on)
    monkeypatch.setattr(sync_module, "_clock", lambda: now[0])
    sync(folder, follow=True)
    assert seen == [("RUNNING", 0), ("RUNNING", 4)]
    run = runs(tracking)["study"]
    assert run.info.status == "FINISHED"
    assert "trajectory.parquet" in artifacts(tracking, run)
    assert run.data.metrics["tuned/test_loss"] == 0.171


def test_following_outlasts_a_server_that_is_away(
    tmp_path: Path, tracking: str, fabricate: Any, monkeypatch: pytest.MonkeyPatch, address_of_nobody: str
) -> None:
    folder = tmp_path / "digits"
    writer = fabricate.fill(folder, range(4))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", address_of_nobody)
    attempts, now = [0.0], [0.0]

    def study_goes_on(seconds: float) -> None:
        now[0] += 1.0
        if now[0] == 100.0:
            fabricate.finish(folder, writer, steps=4)

    original = sync_module.Sender.send

    def counted(self: Any, **how: bool) -> None:
        attempts.append(now[0])
        original(self, **how)

    monkeypatch.setattr(sync_module, "_pause", study_goes_on)
    monkeypatch.setattr(sync_module, "_clock", lambda: now[0])
    monkeypatch.setattr(sync_module.Sender, "send", counted)
    with pytest.raises(SyncError, match="send later with `selftune sync"):
        sync(folder, follow=True)
    pauses = [later - earlier for earlier, later in pairwise(attempts[1:-1])]
    assert pauses == sorted(pauses)  # less and less often
    assert max(pauses) <= sync_module.LONGEST_PAUSE
    assert attempts[-1] == 100.0  # and a last time at the end


@pytest.mark.parametrize(("work", "pause"), [(0.01, 1.0), (0.5, 5.0), (60.0, sync_module.LONGEST_PAUSE)])
def test_what_following_costs_decides_how_often_it_looks_not_how_long_the_server_takes(
    tmp_path: Path, tracking: str, fabricate: Any, monkeypatch: pytest.MonkeyPatch, work: float, pause: float
) -> None:
    folder = tmp_path / "digits"
    writer = fabricate.fill(folder, range(4))
    now, worked, looks = [0.0], [0.0], []

    def study_goes_on(seconds: float) -> None:
        now[0] += 1.0
        if len(looks) == 5:
            fabricate.finish(folder, writer, steps=4)

    def send(self: Any, **how: bool) -> None:
        looks.append(now[0])
        now[0] += 100.0  # for the server's answer
        worked[0] += work

    monkeypatch.setattr(sync_module, "_pause", study_goes_on)
    monkeypatch.setattr(sync_module, "_clock", lambda: now[0])
    monkeypatch.setattr(sync_module, "_work", lambda: worked[0])
    monkeypatch.setattr(sync_module.Sender, "send", send)
    sync(folder, follow=True)
    pauses = [later - earlier - 100.0 for earlier, later in pairwise(looks[:5])]
    assert pauses == [pytest.approx(one) for one in (1.0, pause, pause, pause)]  # the first look is another matter


def test_a_study_whose_process_is_gone_is_marked_killed(
    tmp_path: Path, tracking: str, fabricate: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "digits"
    fabricate.fill(folder, range(4))
    parents = iter([100, 1])
    monkeypatch.setattr(os, "getppid", lambda: next(parents))
    sync(folder, follow=True)
    run = runs(tracking)["study"]
    assert run.info.status == "KILLED"
    assert len(history(tracking, run, "training_loss")) == 4
    merged = MlflowClient(tracking).download_artifacts(run.info.run_id, "trajectory.parquet", str(tmp_path))
    assert len(read_trajectory(Path(merged).parent)) == 4  # although the study never closed the file
    assert len(read_trajectory(folder)) == 4


def test_a_study_that_goes_on_is_sent_once_the_sender_of_the_killed_driver_has_ended(
    tmp_path: Path, tracking: str, fabricate: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "digits"
    writer = fabricate.fill(folder, range(4))
    parents = iter([100, 1])
    with monkeypatch.context() as killed, ExitStack() as other:
        killed.setattr(os, "getppid", lambda: next(parents))
        sync(folder, follow=True)  # says that it was killed,
        other.enter_context(sync_module._alone(folder))  # and is not quite done
        killed.setattr(os, "getppid", lambda: 100)
        killed.setattr(sync_module, "_pause", lambda seconds: other.close())
        fabricate.finish(folder, writer, steps=4)
        sync(folder, follow=True)
    run = runs(tracking)["study"]
    assert run.info.status == "FINISHED"
    assert run.data.metrics["tuned/test_loss"] == 0.171


def test_a_trainer_that_was_lost_has_failed(tmp_path: Path, tracking: str, fabricate: Any) -> None:
    folder = tmp_path / "digits"
    writer = fabricate.fill(folder, range(4))
    writer.lost(1, "its node is gone")
    fabricate.finish(folder, writer, steps=4)
    sync(folder)
    found = runs(tracking)
    assert [found[role].info.status for role in ("study", "trainer 0", "trainer 1")] == [
        "FINISHED",
        "FINISHED",
        "FAILED",
    ]


def test_a_network_that_cannot_be_sent_keeps_nothing_else_back(study: Path, tracking: str) -> None:
    def damaged(folder: Path) -> nn.Module:
        raise DamagedFile(f"{folder}: is damaged")

    with pytest.raises(DamagedFile, match="is damaged"):
        sync(study, network=damaged)
    run = runs(tracking)["study"]
    assert run.info.status == "FINISHED"
    assert "trajectory.parquet" in artifacts(tracking, run)


def test_a_database_made_anew_gets_everything_again(study: Path, tracking: str, migrated_database: Path) -> None:
    sync(study)
    shutil.copy(migrated_database, "fresh.db")
    fresh = f"sqlite:///{Path.cwd() / 'fresh.db'}"
    moved = (study / "mlflow.json").read_text().replace(tracking, fresh)
    content = json.loads(moved)
    write_json(study / "mlflow.json", {key: value for key, value in content.items() if key != "checksum"})
    sync(study)
    assert len(history(fresh, runs(fresh)["study"], "validation_loss")) == 40


def test_the_users_experiment_is_used(study: Path, tracking: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "mine")
    sync(study)
    assert "study" in runs(tracking, "mine")


def test_two_processes_never_send_one_folder(study: Path, tracking: str) -> None:
    with sync_module._alone(study), pytest.raises(SyncError, match="another process is sending"):
        sync(study)


def test_a_folder_without_a_study_is_refused_and_left_alone(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="holds no study"):
        sync(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_an_address_that_mlflow_does_not_know(study: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "nonsense://server")
    with pytest.raises(SyncError, match=r"^could not send to nonsense://server: [^\n]*; send later with"):
        sync(study)


def test_the_command_is_silent(study: Path, tracking: str) -> None:
    (study / "network.safetensors").unlink()  # there is no such task
    command = [sys.executable, "-m", "selftune.studies.mlflow_process", str(study), "--follow"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=110, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert set(runs(tracking)) == {"study", "trainer 0", "trainer 1"}


def test_passwords_are_not_written_down(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    record = Record(tmp_path)
    record.destination("postgresql://me:secret@db/runs", started=0)
    record.save()
    assert "secret" not in (tmp_path / "mlflow.json").read_text()
    with pytest.raises(
        PasswordMissing, match=r"was sent to postgresql://\*\*\*@db/runs, whose password is not kept"
    ):
        tracking_uri(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "postgresql://me:secret@db/runs")
    again = Record(tmp_path).destination(tracking_uri(tmp_path), started=1)
    assert again.started == 0


@pytest.mark.parametrize(
    "address",
    [
        "http://me:S3CRET@127.0.0.1:{port}",
        "http://me:a@S3CRET@127.0.0.1:{port}",
        "http://me:S3CRET/more@127.0.0.1:{port}",
        "http://S3CRET@127.0.0.1:{port}",
        "http://127.0.0.1:{port}?password=S3CRET",
        "http://me:S3CRET@[::1",
        "postgresql://me:S3CRET@127.0.0.1:{port}/runs",
        "postgresql://me:1:S3CRET/2@127.0.0.1/runs",
        "sqlite:////dev/null/x.db?key=S3CRET",
        "nonsense://me:S3CRET@server?token=S3CRET",
        "me:S3CRET@server/runs",
    ],
)
def test_nothing_says_a_password(
    address: str,
    address_of_nobody: str,
    study: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(study.parent)
    monkeypatch.setattr("mlflow.store.db.utils.MAX_RETRY_COUNT", 1)  # ten tries at a database take 102 seconds
    address = address.format(port=address_of_nobody.rpartition(":")[2])
    monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
    assert main([str(study)]) == 1
    told = capfd.readouterr()
    assert len(told.err.splitlines()) == 1
    assert "S3CRET" not in told.err + told.out
    for path in study.parent.rglob("*"):
        assert "S3CRET" not in str(path)
        if path.is_file():
            assert b"S3CRET" not in path.read_bytes(), path


def test_a_second_sync_has_nothing_to_send(study: Path, tracking: str) -> None:
    write_report(study)
    assert sync(study)
    assert not sync(study)


def test_a_deleted_experiment_is_named_with_the_ways_out(
    study: Path, tracking: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    sync(study)
    client = MlflowClient(tracking)
    experiment = client.get_experiment_by_name("selftune").experiment_id
    client.delete_experiment(experiment)
    record = (study / "mlflow.json").read_text()
    with pytest.raises(
        SyncError, match=rf"was deleted in MLflow: .* --experiment-id {experiment}`, or set MLFLOW_"
    ):
        sync(study)
    assert (study / "mlflow.json").read_text() == record
    with monkeypatch.context() as patched:
        patched.setenv("MLFLOW_EXPERIMENT_NAME", "another")
        shutil.copy(study / "mlflow.json", study / "kept.json")
        assert sync(study)
        assert set(runs(tracking, "another")) == {"study", "trainer 0", "trainer 1"}
        shutil.move(study / "kept.json", study / "mlflow.json")
    client.restore_experiment(experiment)
    assert not sync(study)
    assert set(runs(tracking)) == {"study", "trainer 0", "trainer 1"}
