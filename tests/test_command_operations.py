"""The commands status and stop, on runs in processes of their own."""

import json
import signal
import subprocess
import sys
import time

import pytest

from selftune.cli import main
from selftune.storage.lag import note_whole
from selftune.studies.driver import REQUEST, held
from selftune.studies.status import Faults, MemberStatus, Status, TeamStatus, write_status
from selftune.tracking.summary import read_summary

STUDY = """\
study: tiny
objective: {task: digits, hidden: [16], train_examples: 200}
regularizers:
  dropout: {rate: {start: 0.1}}
method: {name: self_tuning, warmup_steps: 10, checkpoint_every: 2}
budget: {steps: 10000000}
"""


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tiny.yaml").write_text(STUDY)
    return tmp_path


@pytest.fixture
def start():
    """Starts commands, and ends what is left of them."""
    processes = []

    def start(*arguments):
        command = [sys.executable, "-m", "selftune.cli", *arguments, "--no-mlflow"]
        processes.append(subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True))
        return processes[-1]

    yield start
    for process in processes:
        if process.poll() is None:
            process.kill()
        process.wait()
        process.stderr.close()


def status(capsys):
    capsys.readouterr()
    assert main(["status", "out", "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def until_it_trains(capsys, process, seconds=100.0):
    """How it stands once it has taken hyper-steps in this process."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        assert process.poll() is None, process.communicate()[1]
        try:
            found = status(capsys)
        except AssertionError:  # there is no folder yet
            found = {"state": "new", "status": None}
        now = found["status"]
        if found["state"] == "running" and now is not None and now["training_steps_per_second"] and now["best"]:
            return found
        time.sleep(0.1)
    raise AssertionError("not in time")


@pytest.mark.timeout(300)  # a busy machine is no failure
def test_a_study_is_looked_at_stopped_resumed_and_killed(place, start, capsys):
    run = start("run", "tiny.yaml", "--local", "--output", "out")
    found = until_it_trains(capsys, run)
    (team,) = found["status"]["teams"]
    (member,) = team["members"]
    assert found["driver"]["process"] == member["process"] == run.pid
    assert (member["state"], found["status"]["best"]["metric"]) == ("training", "validation_loss")
    assert main(["stop", "out"]) == 0
    assert capsys.readouterr().out.endswith("out: stopped\n")
    assert run.wait() == 0
    assert "stopped after" in run.communicate()[1]
    assert read_summary(place / "out")["status"] == status(capsys)["state"] == "stopped"
    steps = status(capsys)["status"]["hyper_steps"]

    again = start("resume", "out")
    found = until_it_trains(capsys, again)
    assert found["status"]["hyper_steps"] >= steps > 0
    assert found["status"]["faults"]["resumed"] == 1
    again.send_signal(signal.SIGKILL)
    again.wait()
    assert status(capsys)["state"] == "killed"
    assert main(["status", "out"]) == 0
    said = capsys.readouterr().out
    assert said.startswith("out: killed\n  go on with `selftune resume out`\n")
    assert " INFO study=tiny " in (place / "out" / "logs" / "driver.log").read_text()


def test_a_look_changes_no_file(place, capsys):
    folder = place / "out"
    folder.mkdir()
    (folder / "study.yaml").write_text(STUDY)
    with held(folder):
        teams = [TeamStatus(0, members=[MemberStatus(0, "lost", "node", 7, 30, "loss is nan")])]
        faults = Faults(restarts=2, diverged=1)
        write_status(folder, Status("tiny", "tuning", "30/100 training steps", teams=teams, faults=faults))
        before = {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in folder.rglob("*")}
        assert main(["status", "out"]) == 0
        assert {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in folder.rglob("*")} == before
    said = capsys.readouterr().out
    for line in (
        "  tuning: 30/100 training steps\n",
        "  trainer 0: lost at step 30, process 7 on node, loss is nan\n",
        "  faults: 2 restarted, 1 diverged\n",
    ):
        assert line in said


def test_a_comparison_shows_the_sweep_that_runs(place, capsys):
    folder = place / "out"
    (folder / "tpe-0").mkdir(parents=True)
    (folder / "comparison.json").write_text("{}")
    with held(folder), held(folder / "tpe-0"):
        sweeps = {"finished": 1, "failed": 0}
        write_status(folder, Status("tiny", "comparison", "1/3 sweeps", trials=sweeps, part="tpe-0"))
        write_status(folder / "tpe-0", Status("tiny", "sweep", "2/8 trials", trials={"finished": 2}))
        assert main(["status", "out"]) == 0
    said = capsys.readouterr().out
    for line in ("  comparison: 1/3 sweeps\n", "  sweeps: 1 finished\n", "  out/tpe-0: running", "2/8 trials\n"):
        assert line in said


def test_nothing_is_asked_of_nobody(place, capsys):
    folder = place / "out"
    folder.mkdir()
    (folder / "study.yaml").write_text(STUDY)
    with held(folder):
        pass
    assert main(["stop", "out"]) == 0
    assert capsys.readouterr().out == "out: nothing runs there; it is finished\n"
    assert not (folder / REQUEST).exists()


@pytest.mark.parametrize(("seconds", "line"), [(200, "  store: 3 min behind\n"), (20, "")])
def test_a_store_that_lags_is_named_while_the_run_lasts(place, capsys, seconds, line):
    folder = place / "out"
    folder.mkdir()
    with held(folder):
        note_whole(folder, time.time() - seconds)
        assert main(["status", "out"]) == 0
        printed = capsys.readouterr().out
        assert ("store:" in printed) is bool(line)
        assert line in printed
        assert status(capsys)["store_behind"] == pytest.approx(seconds, abs=15)
    assert status(capsys)["store_behind"] is None


def test_a_driver_is_asked_without_waiting(place, capsys):
    folder = place / "out"
    folder.mkdir()
    (folder / "study.yaml").write_text(STUDY)
    with held(folder) as driver:
        assert main(["stop", "out", "--no-wait"]) == 0
        assert main(["status", "out"]) == 0
        assert "out: stopping for" in capsys.readouterr().out
        assert driver.asked() is True


@pytest.mark.parametrize("command", ["status", "stop"])
def test_a_folder_without_a_run_is_refused(command, place, capsys):
    (place / "notes").mkdir()
    for folder, why in (("absent", "is not a folder"), ("notes", "holds no study")):
        assert main([command, folder]) == 2
        assert capsys.readouterr().err.startswith(f"{folder}: {why}; give the output folder")


@pytest.mark.parametrize("given", [["--grace", "-1"], ["--grace", "soon"], ["--log-level", "loud"]])
def test_settings_of_the_driver_are_checked(given, place, capsys):
    assert main(["run", "tiny.yaml", *given]) == 2
    assert "error: argument" in capsys.readouterr().err
