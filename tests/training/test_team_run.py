"""A team, round by round: what trainers elsewhere change, and states in any folder."""

import torch

from selftune.listener import Remembered
from selftune.methods import Budget, SelfTuning, SelfTuningSettings
from selftune.training import TrainerFactory, run_in_process
from selftune.training.team_run import TeamRun

SETTINGS = SelfTuningSettings(warmup_steps=6, train_steps=3)


class Elsewhere:
    """A trainer in another place, as a runner sees it: it begins with an order when it gets it."""

    def __init__(self, trainer, member, log):
        self._trainer, self._member, self._log = trainer, member, log
        self.space = trainer.space

    def dispatch(self, order, warm=None):
        self._log.append(("begins", self._member))
        report = self._trainer.execute(order, warm)

        def wait():
            self._log.append(("waited for", self._member))
            return report

        return wait

    def execute(self, order, warm=None):
        return self.dispatch(order, warm)()

    def export_state(self, key):
        return self._trainer.export_state(key)

    def state_dict(self):
        return self._trainer.state_dict()

    def load_state_dict(self, state):
        self._trainer.load_state_dict(state)


def method(team=2):
    return SelfTuning(Budget(steps=18), SETTINGS, team)


def rows(steps):
    return torch.stack([torch.cat([s.hyperparameters, s.hypergradient, s.scale]) for s in steps])


def test_trainers_elsewhere_work_side_by_side_and_nothing_else_is_different(objective, regularization):
    factory, log = TrainerFactory(objective, regularization, seed=3), []
    here, there = Remembered(), Remembered()
    run_in_process(method(3), {m: factory(m) for m in range(3)}, here)
    team = {0: factory(0), 1: Elsewhere(factory(1), 1, log), 2: Elsewhere(factory(2), 2, log)}
    execute = team[0].execute
    team[0].execute = lambda order, *warm: (log.append(("begins", 0)), execute(order, *warm))[1]
    run_in_process(method(3), team, there)
    assert torch.equal(rows(there.steps), rows(here.steps))
    assert log[:5] == [("begins", 1), ("begins", 2), ("begins", 0), ("waited for", 1), ("waited for", 2)]


def test_a_state_in_any_folder_is_enough_to_go_on_elsewhere(objective, regularization, tmp_path):
    factory, wanted, found = TrainerFactory(objective, regularization, seed=3), Remembered(), Remembered()
    run_in_process(method(), {m: factory(m) for m in range(2)}, wanted)
    first = TeamRun(method(), {m: factory(m) for m in range(2)}, found)
    first.join()
    assert (first.training_step, first.done) == (0, False)
    for _ in range(3):
        first.round()
    assert first.training_step == 12
    first.save(tmp_path / "somewhere")
    second = TeamRun(method(), {m: factory(m) for m in range(2)}, found)
    assert not second.restore(tmp_path / "nowhere")
    assert second.restore(tmp_path / "somewhere")
    second.join()
    assert second.training_step == 12
    while not second.done:
        second.round()
    assert torch.equal(rows(found.steps), rows(wanted.steps))
