"""Training loops of one's own, carried out by work orders."""

import pytest
import torch
from own_loops import BATCHES, SETTINGS, Loop, tuner_of

from selftune import SettingError
from selftune.listener import Listener
from selftune.methods import Budget, SelfTuning, SelfTuningSettings
from selftune.training.loop_trainer import LoopTrainer
from selftune.training.runner import run_in_process
from selftune.training.team_run import NoTrainerLeft


def method(team=1, **settings):
    return SelfTuning(Budget(steps=20), SelfTuningSettings(**SETTINGS, **settings), team)


class Memory(Listener):
    def __init__(self, stops_at=None):
        self.steps, self.stops_at = [], stops_at

    def hyper_step(self, step):
        self.steps.append(step)
        if step.number == self.stops_at:
            raise KeyboardInterrupt


def run(team=1, folder=None, stops_at=None, **settings):
    memory = Memory(stops_at)
    trainers = {member: LoopTrainer(Loop(member), member) for member in range(team)}
    try:
        reports = run_in_process(method(team, **settings), trainers, memory, folder)
    except KeyboardInterrupt:
        return None, memory.steps
    return reports, memory.steps


def same(one, other):
    return all(torch.equal(one[name], other[name]) for name in one)


def test_the_loop_gives_the_numbers_that_it_gives_by_itself():
    reports, steps = run()
    tuner = tuner_of(0, steps=20)
    for number in range(20):
        tuner.loss(BATCHES[number]).backward()
        tuner.step()
    assert len(steps) == len(tuner.trajectory) == 8
    for here, there in zip(steps, tuner.trajectory, strict=True):
        assert torch.equal(here.hypergradient, there.hypergradient)
        assert torch.equal(here.hyperparameters, there.hyperparameters)
    state = tuner.exported()
    assert same({f"network.{name}": tensor for name, tensor in state.items()}, reports[0].tensors)
    assert reports[0].metrics["validation_loss"] == tuner.evaluate()["validation_loss"]


def test_a_team_of_loops_goes_on_after_a_stop_to_the_same_numbers(tmp_path):
    expected, steps = run(team=2)
    stopped, before = run(2, tmp_path, stops_at=4, checkpoint_every=2)
    assert stopped is None
    reports, after = run(2, tmp_path, checkpoint_every=2)
    assert after[0].number == 4
    for member, report in expected.items():
        assert same(report.tensors, reports[member].tensors)
    for there, here in zip(steps, [*before[:4], *after], strict=True):
        assert torch.equal(there.hyperparameters, here.hyperparameters)


def test_a_loop_that_ends_too_early_is_told_so():
    def short():
        tuner = tuner_of(0)
        for batch in BATCHES[:7]:
            tuner.loss(batch).backward()
            tuner.step()

    with pytest.raises(SettingError, match="loop: ended after 7 training steps, before its scheduler was done"):
        run_in_process(method(), {0: LoopTrainer(short)})


def test_a_loop_without_a_tuner_is_refused():
    with pytest.raises(SettingError, match="loop: made no OnlineTuner"):
        LoopTrainer(lambda: None)


def test_what_a_loop_raises_is_raised():
    def broken():
        tuner_of(0)
        raise ZeroDivisionError("of the loop")

    with pytest.raises(ZeroDivisionError, match="of the loop"):
        run_in_process(method(), {0: LoopTrainer(broken)})


def test_the_scheduler_brings_the_method():
    with pytest.raises(SettingError, match="learning_rate: is the scheduler's"):
        LoopTrainer(lambda: tuner_of(0, learning_rate=0.1))
    with pytest.raises(SettingError, match="method: is the scheduler's"):
        LoopTrainer(lambda: tuner_of(0, method="implicit"))


def test_a_loss_that_is_not_finite_any_more_ends_the_trainer():
    def diverging():
        tuner = tuner_of(0, loss=lambda outputs, batch: outputs.square().sum(dim=1) * 1e30)
        while not tuner.done:
            tuner.loss(BATCHES[0]).backward()
            tuner.step()

    with pytest.raises(NoTrainerLeft, match="training loss is"):
        run_in_process(method(), {0: LoopTrainer(diverging)})
