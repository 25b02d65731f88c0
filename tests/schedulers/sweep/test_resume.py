import subprocess
import sys
from pathlib import Path

import pytest
from full_matrix import first_of
from sweep_fakes import SETTINGS, search


def killed(folder, cluster, scheduler, steps):
    """A sweep whose driver is killed once its record has a trial of so many training steps."""
    driver = Path(__file__).parent / "sweep_driver.py"
    command = [sys.executable, str(driver), str(folder), cluster, scheduler, str(steps)]
    return subprocess.run(command, stderr=subprocess.PIPE, text=True)


@pytest.mark.parametrize("scheduler", first_of(SETTINGS))
def test_a_killed_sweep_goes_on_with_what_its_scheduler_remembers(scheduler, tmp_path, cluster):
    process = killed(tmp_path, cluster, scheduler, 30)
    assert process.returncode == -9, process.stderr
    for path in [*tmp_path.rglob("*.pkl"), *tmp_path.rglob(".tune_metadata")]:
        path.write_bytes(b"of another version")
    heard = search(tmp_path, cluster, resume=True, **SETTINGS[scheduler])
    before, after = heard.states[0], heard.last
    assert before
    assert max(trial.training_step for trial in before.values()) >= 30
    for number, trial in before.items():
        if trial.has_ended:
            assert number not in after  # it is not trained again
        else:
            assert after[number].spent >= trial.spent
            assert after[number].time >= trial.time
    ended = {number: after.get(number, before.get(number)) for number in range(SETTINGS[scheduler]["trials"])}
    assert all(trial.status in ("finished", "stopped") for trial in ended.values())
    assert any(trial.status == "finished" for trial in ended.values())


@pytest.mark.full
@pytest.mark.parametrize("scheduler", ["asha", "hyperband"])
def test_a_sweep_that_was_killed_twice_keeps_one_drivers_checkpoints_of_each_trial(scheduler, tmp_path, cluster):
    for steps in (20, 60):
        process = killed(tmp_path, cluster, scheduler, steps)
        assert process.returncode == -9, process.stderr
    heard = search(tmp_path, cluster, resume=True, **SETTINGS[scheduler])
    runs = {number: set() for number in range(SETTINGS[scheduler]["trials"])}
    for path in tmp_path.glob("ray/run-*/trial-*/checkpoint_*"):
        runs[int(path.parent.name.removeprefix("trial-"))].add(path.parents[1].name)
    trained = {trial.number for trial in heard.trials if trial.training_step and trial.status == "running"}
    assert trained
    assert all(runs[number] == {"run-2"} for number in trained)
    assert all(runs.values()), "the networks of all trials are there"
