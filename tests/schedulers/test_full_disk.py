"""A disk that is full while a state is saved: the run ends, and goes on later as if nothing had been."""

import errno
import os
import subprocess
import sys
from importlib import import_module

import pytest
from fake_tune import FakeTrial, FakeTune
from ray_fakes import SPACE, Recorder, ToyMethod, Toys

from selftune.schedulers import BilevelScheduler, run_record, trainable
from selftune.schedulers.run_record import RunRecord, read_record
from selftune.tracking.trajectory import read_trajectory

pytestmark = pytest.mark.usefixtures("node", "local_trainables")


def driver(place, recorder, seed=0):
    place.mkdir(exist_ok=True)
    scheduler = BilevelScheduler(ToyMethod(2), 2, listener=lambda team: recorder)
    scheduler.left = read_record(place, SPACE)
    record = RunRecord(place, scheduler, SPACE, scheduler.left)
    trials = [FakeTrial(f"{record.run_name}-t{member}", {"member": member}, max_failures=3) for member in range(2)]
    tune = FakeTune(scheduler, trainable(Toys()), trials, seed)
    tune.keep(record, place / record.run_name)
    return tune


def full(*_, **__):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "state.safetensors")


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(
    ("where", "words"),
    [("schedulers.trainable", r"trainer \d: .*No space left on device"), ("storage.kept_state", "No space left")],
)
def test_a_full_disk_loses_nothing(where, words, seed, tmp_path, undisturbed, monkeypatch):
    monkeypatch.setattr(run_record, "_SHARE", 1.0)  # records are written whenever something is new
    place, before, after = tmp_path / "ray", Recorder(), Recorder()
    tune = driver(place, before, seed)
    while len(before.of("hyper_step")) < 7:
        tune.step()
    with monkeypatch.context() as patch:
        patch.setattr(import_module(f"selftune.{where}"), "save_state", full)
        with pytest.raises(OSError, match=words):
            tune.run()
    assert before.of("lost") == []
    again = driver(place, after, seed)
    again.run()
    expected, _ = undisturbed(ToyMethod(2))
    assert {step[1]: step for step in before.of("hyper_step") + after.of("hyper_step")} == {
        step[1]: step for step in expected.of("hyper_step")
    }
    assert len(after.of("hyper_step")) < len(expected.of("hyper_step"))
    finals = {m: one.final.tensors["network.weights"] for m, one in again.scheduler.teams[0].members.items()}
    assert {member: tensor.tolist() for member, tensor in finals.items()} == undisturbed(ToyMethod(2))[1]


STUDY = """\
study: large
objective: {task: digits, hidden: [256, 256], train_examples: 200}
regularizers: {dropout: {rate: {start: 0.1}}}
method: {name: self_tuning, warmup_steps: 10, checkpoint_every: 2}
trainers: {number: 2, cpus: 0.5}
budget: {steps: 80}
"""


@pytest.mark.full
@pytest.mark.timeout(600)
@pytest.mark.skipif(os.geteuid() != 0, reason="only root makes a disk that is small")
def test_a_study_on_ray_whose_disk_is_full_goes_on_when_there_is_room(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "large.yaml").write_text(STUDY)
    (tmp_path / "disk").mkdir()
    command = [sys.executable, "-m", "selftune.cli", "run", "large.yaml", "--no-mlflow", "--restart"]
    made = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=7m", "tmpfs", "disk"], capture_output=True)
    if made.returncode:
        pytest.skip("no disk can be mounted here")
    try:
        full = subprocess.run([*command, "--output", "disk/out"], capture_output=True, text=True)
        assert full.returncode == 1, full.stderr
        assert "No space left on device" in full.stderr
        assert "Traceback" not in full.stderr
        subprocess.run(["mount", "-o", "remount,size=200m", "disk"], check=True)
        again = subprocess.run([*command, "--output", "disk/out"], capture_output=True, text=True)
        assert again.returncode == 0, again.stderr
        subprocess.run([*command, "--output", "whole", "--local"], check=True, capture_output=True)
        there, whole = read_trajectory(tmp_path / "disk" / "out"), read_trajectory(tmp_path / "whole")
        assert (there.values == whole.values).all()
        assert (there.validation_loss == whole.validation_loss).all()
    finally:
        subprocess.run(["umount", "-l", "disk"], check=True)
