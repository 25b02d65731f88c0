from dataclasses import replace

import pytest
import torch

from selftune.listener import Place
from selftune.methods import Budget, HyperStep
from selftune.methods.best_step import BestStep
from selftune.methods.method import Fault
from selftune.methods.reports import Diverged, Trained
from selftune.storage.files import DamagedFile
from selftune.studies.progress import Progress
from selftune.studies.status import STATUS, Faults, read_status
from selftune.studies.status_writer import StatusWriter


def hyper_step(number, validation_loss):
    one = torch.ones(1)
    return HyperStep(number, 10 * number + 10, 1.0, 0.5, validation_loss, one, one, one)


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


def writer(folder, clock, steps=100):
    progress = Progress(lambda line: None, "tuning", Budget(steps=steps), clock)
    return StatusWriter(folder, "digits", "tuning", progress, BestStep(), clock)


def trained(step):
    return Trained(training_step=step, training_loss=0.5)


def test_progress_pace_best_and_places_are_written(tmp_path, clock):
    status = writer(tmp_path, clock)
    for member in (0, 1):
        status.arrived(member, Place("node", 100 + member))
    status.resumed({0: 0, 1: 0}, 0)
    for second in range(1, 5):
        clock.now = float(second)
        for member in (0, 1):
            status.reported(member, trained(10 * second))
        status.hyper_step(hyper_step(second - 1, validation_loss=abs(second - 3) + 0.25))
    status.ended()
    found = read_status(tmp_path)
    assert (found.name, found.phase, found.progress) == ("digits", "tuning", "40/100 training steps")
    assert (found.training_steps, found.hyper_steps) == (80, 4)
    assert found.training_steps_per_second == pytest.approx(20.0)
    assert found.hyper_steps_per_minute == pytest.approx(60.0)
    assert found.seconds_left == pytest.approx(6.0)
    assert (found.best.value, found.best.hyper_step) == (0.25, 2)
    members = [(one.state, one.host, one.process) for one in found.teams[0].members]
    assert members == [("training", "node", 100), ("training", "node", 101)]


def test_between_two_writings_a_second_passes(tmp_path, clock):
    status = writer(tmp_path, clock)
    status.arrived(0, Place("node", 100))
    status.reported(0, trained(10))
    assert read_status(tmp_path).training_steps == 0
    clock.now = 1.0
    status.reported(0, trained(20))
    assert read_status(tmp_path).training_steps == 20


def test_faults_are_counted_over_all_drivers(tmp_path, clock):
    status = writer(tmp_path, clock)
    for member in (0, 1, 2):
        status.arrived(member, Place("node", 100 + member))
    status.hung(0, "hangs: order 3 takes longer than 60 seconds")
    status.departed(0, "hangs: order 3 takes longer than 60 seconds")
    assert read_status(tmp_path).teams[0].members[0].state == "restarting"
    status.arrived(0, Place("other", 200))
    assert (read_status(tmp_path).teams[0].members[0].host, status._members[0].message) == ("other", "")
    status.reported(1, Diverged(message="loss is nan"))
    status.lost(1, "loss is nan")
    status.lost(2, "its worker died")
    again = writer(tmp_path, clock)
    again.resumed({0: 3}, 2)
    again.ended()
    faults = read_status(tmp_path).faults
    assert faults == Faults(restarts=1, diverged=1, lost=1, resumed=1, hung=1)


def test_who_was_outvoted_is_named_until_it_is_believed_again(tmp_path, clock):
    status = writer(tmp_path, clock)
    for member in (0, 1):
        status.arrived(member, Place("node", 100 + member))
    for number, faults in enumerate([{1: Fault("it is far off")}, {1: Fault("it is far off")}, {}]):
        status.hyper_step(replace(hyper_step(number, validation_loss=0.5), faults=faults))
        status.ended()
        words = [one.message for one in read_status(tmp_path).teams[0].members]
        assert words == ["", "outvoted: it is far off" if faults else ""]
    assert read_status(tmp_path).faults == Faults(outvoted=2)


def test_the_best_of_before_counts_after_a_resume(tmp_path, clock):
    first = writer(tmp_path, clock)
    first.hyper_step(hyper_step(0, validation_loss=0.5))
    first.ended()
    again = writer(tmp_path, clock)
    again.hyper_step(hyper_step(1, validation_loss=0.7))
    again.ended()
    assert read_status(tmp_path).best.value == 0.5
    again.hyper_step(hyper_step(2, validation_loss=0.3))
    again.ended()
    assert read_status(tmp_path).best.hyper_step == 2


def test_a_damaged_file_is_named(tmp_path):
    (tmp_path / STATUS).write_text("{")
    with pytest.raises(DamagedFile, match=r"status\.json: is damaged"):
        read_status(tmp_path)
