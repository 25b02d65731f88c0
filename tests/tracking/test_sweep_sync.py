"""What of a sweep reaches an MLflow server: a run per trial, once, whatever was killed and resumed."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from mlflow import MlflowClient
from mlflow.entities import Run
from synthetic_trials import DROPOUT, RATE, SPACE, records, settings, tell
from torch import nn

from selftune.search import TrialRecord
from selftune.search.trial_schedulers import PbtSettings
from selftune.storage.state_file import save_state
from selftune.tracking import sync as sync_module
from selftune.tracking.server import Server
from selftune.tracking.summary import Summary, write_summary
from selftune.tracking.sweep_report import write_sweep_report
from selftune.tracking.sync import sync
from selftune.tracking.trials_file import TrialsWriter, read_trials

HEARD = records(10)
STUDY = "study: digits\nobjective: {task: digits}\nsweep: {trials: 10}\n"


def runs(uri: str) -> dict[str, Run]:
    """Runs by their role; an error if one is there twice."""
    client = MlflowClient(uri)
    found = client.search_runs([client.get_experiment_by_name("selftune").experiment_id])
    by_role = {run.data.tags["selftune.run"]: run for run in found}
    assert len(by_role) == len(found)
    return by_role


def history(uri: str, run: Run, key: str) -> list[tuple[int, float]]:
    return [(m.step, m.value) for m in MlflowClient(uri).get_metric_history(run.info.run_id, key)]


def write(folder: Path, heard: list[TrialRecord], status: str, **changed: object) -> None:
    """What a sweep that got so far leaves in its folder."""
    folder.mkdir(exist_ok=True)
    (folder / "study.yaml").write_text(STUDY)
    writer = TrialsWriter(folder, SPACE, settings(trials=10, **changed))
    tell(writer, heard)
    trials = read_trials(folder)
    summary: Summary = {"kind": "sweep", "name": "digits", "status": status}
    if status == "finished":
        winner = trials.winner
        assert winner is not None
        summary["winner"] = {
            "number": winner.number,
            "values": dict(winner.values),
            "training_step": winner.best_step or 0,
            "value": winner.best or 0.0,
        }
        summary |= {
            "measures": {"test_loss": 0.17},
            "trials": trials.counts,
            "spent": trials.spent,
            "seconds": 9.0,
        }
        (folder / "winner.yaml").write_text("study: digits\n")
        write_sweep_report(folder, summary)
    write_summary(folder, summary)


@pytest.fixture
def sweep(tmp_path: Path) -> Path:
    write(tmp_path / "digits", HEARD, "finished")
    return tmp_path / "digits"


def test_a_sweep_becomes_a_run_with_a_run_per_trial(sweep: Path, tracking: str) -> None:
    sync(sweep)
    found, trials = runs(tracking), read_trials(sweep)
    parent = found["study"]
    assert set(found) == {"study"} | {f"trial {number}" for number in range(10) if number != 7}
    assert parent.info.run_name == "digits"
    assert parent.data.params["objective.task"] == "digits"
    best = trials.best_so_far()
    assert history(tracking, parent, "best/validation_loss") == list(zip(best.spent, best.value, strict=True))
    assert parent.data.metrics["winner/test_loss"] == 0.17
    assert parent.data.metrics["trials/failed"] == 1
    assert trials.winner is not None
    assert parent.data.tags["winner"] == f"trial {trials.winner.number}"
    assert float(parent.data.tags[f"winner.{RATE}"]) == trials.winner.values[RATE]

    for number, last in trials.last.items():
        if number == 7:  # refused
            continue
        run, curve = found[f"trial {number}"], trials.curves[number]
        assert run.data.tags["mlflow.parentRunId"] == parent.info.run_id
        assert run.data.tags["selftune.status"] == last.status
        assert run.info.status == ("FAILED" if last.status == "failed" else "FINISHED")
        assert float(run.data.params[DROPOUT]) == last.values[DROPOUT]
        assert json.loads(run.data.params["objective.hidden"]) == last.values["objective.hidden"]
        losses = curve.measures["validation_loss"]
        assert history(tracking, run, "validation_loss") == list(zip(curve.training_step, losses, strict=True))
        assert (run.data.tags.get("winner") == "true") == (number == trials.winner.number)
    assert found["trial 4"].data.tags["selftune.message"] == "the loss is NaN at training step 113"

    files = {file.path for file in MlflowClient(tracking).list_artifacts(parent.info.run_id)}
    assert {"study.yaml", "winner.yaml", "summary.json", "report.html", "trials.jsonl", "search.json"} < files


def test_the_winners_network_goes_to_the_run_of_the_sweep(
    sweep: Path, tracking: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    network = nn.Linear(3, 2)
    save_state(sweep / "network.safetensors", network.state_dict(), "network")
    logged: list[tuple[str, nn.Module]] = []
    monkeypatch.setattr(Server, "log_network", lambda self, _, run, network, needs: logged.append((run, network)))
    sync(sweep, network=lambda folder: network)
    sync(sweep, network=lambda folder: network)
    assert logged == [(runs(tracking)["study"].info.run_id, network)]


def test_what_was_sent_is_not_sent_again(sweep: Path, tracking: str) -> None:
    assert sync(sweep)
    record = (sweep / "mlflow.json").read_text()
    assert not sync(sweep)
    assert (sweep / "mlflow.json").read_text() == record


def test_a_resumed_sweep_has_every_trial_and_every_report_once(tmp_path: Path, tracking: str) -> None:
    folder, behind = tmp_path / "digits", 40
    write(folder, HEARD[:60], "running")
    sync(folder)
    assert {run.info.status for run in runs(tracking).values()} >= {"RUNNING"}
    # from an earlier state, at other times, and with another draw for trial 8
    later = [replace(one, time=one.time + 100.0) for one in HEARD[behind:]]
    later = [replace(one, values=dict(one.values) | {DROPOUT: 0.123}) if one.number == 8 else one for one in later]
    write(folder, HEARD[:behind] + later, "finished")
    sync(folder)
    found = runs(tracking)
    assert set(found) == {"study"} | {f"trial {number}" for number in range(10) if number != 7}
    assert found["trial 8"].data.params[DROPOUT] == "0.123"
    for number, curve in read_trials(folder).curves.items():
        sent = history(tracking, found[f"trial {number}"], "validation_loss")
        assert [step for step, _ in sent] == curve.training_step.tolist()
    steps = [step for step, _ in history(tracking, found["study"], "best/validation_loss")]
    assert steps == sorted(set(steps))
    assert "RUNNING" not in {run.info.status for run in found.values()}


def test_a_trial_that_a_resumed_sweep_never_drew_is_gone(tmp_path: Path, tracking: str) -> None:
    folder = tmp_path / "digits"
    write(folder, HEARD[:60], "running")
    sync(folder)
    most = {one.number for one in HEARD[:60]}
    write(folder, [one for one in HEARD[:60] if one.number != max(most)], "interrupted")
    sync(folder)
    found = runs(tracking)
    assert f"trial {max(most)}" not in found
    assert found["study"].info.status == "KILLED"
    assert "RUNNING" not in {run.info.status for run in found.values()}


def test_values_that_change_on_the_way_become_metrics(tmp_path: Path, tracking: str) -> None:
    folder = tmp_path / "digits"
    loss = "validation_loss"
    first = TrialRecord(
        0, {DROPOUT: 0.1}, training_step=10, spent=10, measures={loss: 0.9}, best=0.9, best_step=10
    )
    donor = replace(first, number=1, measures={loss: 0.2}, best=0.2, time=1.0)
    copied = replace(first, values={DROPOUT: 0.5}, status="paused", copied=1, best=0.2, time=2.0)
    after = replace(copied, status="running", training_step=20, spent=20, measures={loss: 0.1}, best=0.1, time=3.0)
    write(folder, [first, donor, copied, after], "running", scheduler=PbtSettings())
    sync(folder)
    run = runs(tracking)["trial 0"]
    assert run.data.params[DROPOUT] == "0.1"
    assert history(tracking, run, f"value/{DROPOUT}") == [(10, 0.1), (20, 0.5)]
    assert history(tracking, run, "copied") == [(20, 1.0)]
    assert history(tracking, run, loss) == [(10, 0.9), (20, 0.1)]


def test_following_sends_while_the_sweep_runs(
    tmp_path: Path, tracking: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "digits"
    folder.mkdir()
    (folder / "study.yaml").write_text(STUDY)
    write_summary(folder, {"kind": "sweep", "status": "running"})
    seen: list[int] = []
    now = [0.0]

    def sweep_goes_on(seconds: float) -> None:  # while the follower sleeps
        seen.append(len(runs(tracking)))
        now[0] += 60.0
        if len(seen) == 1:
            write(folder, HEARD[:30], "running")
        elif len(seen) == 2:
            write(folder, HEARD, "finished")

    monkeypatch.setattr(sync_module, "_pause", sweep_goes_on)
    monkeypatch.setattr(sync_module, "_clock", lambda: now[0])
    sync(folder, follow=True)
    assert seen == [1, 1 + len({one.number for one in HEARD[:30]} - {7})]
    assert len(runs(tracking)) == 10
