"""A team that searches for networks through Ray Tune takes the steps of a single trainer; no Ray is started."""

import pytest
import torch
from fake_tune import FakeTune
from full_matrix import first_of
from torch import nn

from selftune.errors import SettingError
from selftune.hyperparameters import Tune
from selftune.listener import Listener
from selftune.lower_level.classification import Classification
from selftune.lower_level.optimization import Optimization
from selftune.methods import Budget, NetworkLineSearch, NetworkLineSearchSettings
from selftune.regularization.regularizer import regularizers
from selftune.schedulers import NetworkLineSearchScheduler, trainable
from selftune.training import TrainerFactory, run_in_process

pytestmark = pytest.mark.usefixtures("node", "local_trainables")

SETTINGS = {"warmup_steps": 10, "train_steps": 5, "lanczos_steps": 4, "system_steps": 4}
STEPS = 60


@pytest.fixture(autouse=True)
def _room(node):
    node(CPU=8)


def data(examples, seed):
    labels = torch.arange(examples) % 3
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(examples, 6, generator=generator) + labels[:, None], labels


def factory():
    splits = data(96, 0), data(80, 1), data(48, 2)
    objective = Classification(
        lambda: nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 3)), *splits, Optimization(16, "sgd", 0.05)
    )
    return TrainerFactory(objective, [regularizers["weight_decay"](strength=Tune(0.3))], seed=1)


class Steps(Listener):
    def __init__(self):
        self.steps = {}

    def hyper_step(self, step):
        self.steps[step.number] = (step.training_step, step.validation_loss, step.hyperparameters.tolist())


@pytest.fixture(scope="module")
def alone():
    steps = Steps()
    method = NetworkLineSearch(Budget(steps=STEPS), NetworkLineSearchSettings(**SETTINGS))
    return steps, run_in_process(method, {0: factory()(0)}, steps)[0]


def make(team, seed, kill=0.0, **changes):
    steps = Steps()
    scheduler = NetworkLineSearchScheduler(
        steps=STEPS, team_size=team, listener=lambda _: steps, **SETTINGS | changes
    )
    return FakeTune(scheduler, trainable(factory()), team, seed=seed, kill=kill), steps


def networks(tune):
    finals = [entry.final for entry in tune.scheduler.teams[0].members.values()]
    return [{k: v for k, v in final.tensors.items() if k.startswith("network.")} for final in finals]


@pytest.mark.parametrize("team", [1, 2, 3])
@pytest.mark.parametrize("seed", range(2))
def test_a_team_takes_the_steps_of_a_single_trainer(alone, team, seed):
    tune, steps = make(team, seed=seed)
    tune.run()
    assert steps.steps == alone[0].steps
    for network in networks(tune):
        assert all(torch.equal(tensor, alone[1].tensors[name]) for name, tensor in network.items())


@pytest.mark.parametrize("team", [1, 3])
@pytest.mark.parametrize("seed", first_of(range(6), always=2))
def test_restarted_trials_change_nothing(alone, team, seed):
    tune, steps = make(team, seed=seed, kill=0.05)
    tune.run()
    assert steps.steps == alone[0].steps
    for network in networks(tune):
        assert all(torch.equal(tensor, alone[1].tensors[name]) for name, tensor in network.items())


@pytest.mark.parametrize("seed", range(4))
def test_with_rare_checkpoints_the_path_goes_back_or_ends_but_never_hangs(seed):
    tune, steps = make(2, seed=seed, kill=0.05, checkpoint_every=4)
    tune.run()
    assert tune.kills > 0
    method = tune.scheduler.teams[0].method
    assert method.done
    assert method.stopped == "lost" or method._training_step == STEPS
    assert sorted(steps.steps) == list(range(len(steps.steps)))


def test_wrong_settings_are_refused():
    with pytest.raises(SettingError, match="alpha"):
        NetworkLineSearchScheduler(steps=10, alpha=2.0)
    with pytest.raises(SettingError, match="alhpa"):
        NetworkLineSearchScheduler(steps=10, alhpa=0.1)
