"""Several teams under one Tuner: each has random numbers of its own, and sees what its trials' configs say."""

import pytest
import torch
from fake_tune import FakeTrial, FakeTune
from ray_fakes import Recorder, Silent, bits
from torch import nn

from selftune import Classification, Optimization, SelfTuningScheduler, Tune, tune
from selftune.methods import Budget, SelfTuning, SelfTuningSettings
from selftune.schedulers import BilevelScheduler, trainable
from selftune.schedulers.trainable import users_config
from selftune.training import TrainerFactory
from selftune.training.seeds import Streams, seed_of

pytestmark = pytest.mark.usefixtures("node", "local_trainables")

SETTINGS = {"warmup_steps": 4, "train_steps": 2, "checkpoint_every": 4, "learning_rate": 0.1}
STEPS = 24
REGULARIZERS = {"label_smoothing": {"epsilon": Tune(0.1)}}


def objective(width=8):
    generator = torch.Generator().manual_seed(0)
    x, y = torch.randn(96, 6, generator=generator), torch.randint(3, (96,), generator=generator)
    splits = [(x[i : i + 32], y[i : i + 32]) for i in (0, 32, 64)]
    network = lambda: nn.Sequential(nn.Linear(6, width), nn.Dropout(0.1), nn.Linear(width, 3))  # noqa: E731
    return Classification(network, *splits, Optimization(batch_size=16))


def run(trials, team_size=2, factory=None, **settings):
    """The controller after its run, and what every team's listener heard."""
    recorders = {}
    listener = lambda team: recorders.setdefault(team, Recorder())  # noqa: E731
    scheduler = SelfTuningScheduler(steps=STEPS, team_size=team_size, listener=listener, **SETTINGS)
    factory = factory or TrainerFactory(objective(), REGULARIZERS, seed=3)
    controller = FakeTune(scheduler, trainable(factory), trials, **settings).run()
    return controller, recorders


def rows(steps):
    """Hyper-steps to the last bit, without the seconds they took."""
    return [(*row[:2], *row[3:]) for row in steps]


def heard(recorder):
    return rows(event[1:] for event in recorder.of("hyper_step"))


def test_two_teams_are_two_and_the_first_one_is_that_of_a_run_in_process():
    _, recorders = run(4)
    alone = tune(objective(), REGULARIZERS, steps=STEPS, trainers=2, seed=3, **SETTINGS)
    first, second = heard(recorders[0]), heard(recorders[1])
    assert first == rows(map(bits, alone.trajectory))
    assert len(first) == len(second) == 10
    assert all(a != b for a, b in zip(first, second, strict=True))


def test_killed_workers_change_neither_team():
    _, calm = run(4)
    controller, recorders = run(4, seed=5, kill=0.1)
    assert controller.kills > 0
    assert [heard(recorders[team]) for team in (0, 1)] == [heard(calm[team]) for team in (0, 1)]


def test_members_and_teams_draw_numbers_of_their_own_and_the_first_team_those_of_old():
    cpu = torch.device("cpu")
    drawn = {
        tuple(torch.rand(3, generator=Streams(0, member, cpu, team)("epoch", 7)).tolist())
        for member in range(3)
        for team in range(3)
    }
    assert len(drawn) == 9
    assert seed_of(3, 1, "epoch", 7) == seed_of(3, 1, "epoch", 7, team=0) == 6091475701545268721


class Factory:
    """Networks are as wide as the config says."""

    def __call__(self, member, team, config):
        return TrainerFactory(objective(config["width"]), REGULARIZERS)(member, team)


def test_a_factory_sees_the_team_and_the_config_of_its_trial():
    configs = [{"width": 4}, {"width": 4}, {"width": 5}, {"width": 5}]
    controller, _ = run([FakeTrial(f"t{i}", config) for i, config in enumerate(configs)], factory=Factory())
    assert [users_config(trial.config) for trial in controller.trials] == configs
    for number, team in enumerate(controller.scheduler.teams):
        assert team.members[0].final.tensors["network.0.weight"].shape == (4 + number, 6)


class Method:
    """The learning rate is that of the config, and one more in the second team."""

    def __call__(self, team, config):
        settings = SelfTuningSettings(**SETTINGS | {"learning_rate": config["rate"] + team})
        return SelfTuning(Budget(steps=STEPS), settings)


def test_a_method_sees_the_team_and_the_config_also_after_a_restart_of_the_driver():
    trials = [FakeTrial(f"t{i}", {"rate": 0.1 * (i + 1)}) for i in range(2)]
    worker = trainable(TrainerFactory(objective(), REGULARIZERS))
    controller = FakeTune(BilevelScheduler(Method()), worker, trials)
    while len(controller.scheduler.teams) < 2:
        controller.step()
    controller.checkpoint()
    snapshot = controller.snapshots[-1]
    for driver in (controller, controller.restored(snapshot, snapshot)):
        driver.run()
        assert [team.method.settings.learning_rate for team in driver.scheduler.teams] == [0.1, 1.2]


def test_callables_without_such_parameters_work_as_before():
    controller = FakeTune(BilevelScheduler(lambda: Silent()), trainable(lambda member: None), 1)
    controller.step()
    assert len(controller.scheduler.teams) == 1
