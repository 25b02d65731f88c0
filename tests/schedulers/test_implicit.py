"""Online implicit differentiation under Ray Tune's protocol moves as it does in process; no Ray is started."""

import pytest
import torch
from fake_tune import FakeTune
from ray_fakes import Recorder
from torch import nn

from selftune.errors import SettingError
from selftune.hyperparameters import Tune
from selftune.lower_level.classification import Classification
from selftune.lower_level.optimization import Optimization
from selftune.methods import Budget, OnlineImplicit, OnlineImplicitSettings
from selftune.regularization.regularizer import regularizers
from selftune.schedulers import ImplicitScheduler, trainable
from selftune.training import TrainerFactory, run_in_process

SETTINGS = {"warmup_steps": 4, "train_steps": 2, "system": "descent", "system_steps": 2, "checkpoint_every": 4}
STEPS = 30


def factory():
    generator = torch.Generator().manual_seed(0)
    data = torch.randn(32, 4, generator=generator), torch.arange(32) % 3
    objective = Classification(lambda: nn.Linear(4, 3), data, data, data, Optimization(batch_size=16))
    return TrainerFactory(objective, [regularizers["weight_decay"](strength=Tune(0.1))], seed=2)


def iterates(recorder):
    """Hyper-steps without their seconds, once each."""
    return sorted({event[1]: event[1:3] + event[4:] for event in recorder.of("hyper_step")}.values())


@pytest.mark.usefixtures("node", "local_trainables")
@pytest.mark.parametrize("team_size", [1, 2])
@pytest.mark.parametrize("kill", [0.0, 0.05])
def test_a_team_moves_as_in_process(team_size, kill):
    alone, recorder = Recorder(), Recorder()
    method = OnlineImplicit(Budget(steps=STEPS), OnlineImplicitSettings(**SETTINGS), team_size)
    run_in_process(method, {member: factory()(member) for member in range(team_size)}, alone)
    scheduler = ImplicitScheduler(steps=STEPS, team_size=team_size, listener=lambda team: recorder, **SETTINGS)
    tune = FakeTune(scheduler, trainable(factory()), team_size, seed=3, kill=kill)
    tune.run()
    assert bool(tune.kills) is bool(kill)
    assert len(iterates(alone)) == (STEPS - 4) // 2
    assert iterates(recorder) == iterates(alone)


def test_settings_reach_the_method():
    method = ImplicitScheduler(steps=30, team_size=3, system="descent", damping=0.2, warmup_steps=7).make_method()
    assert (method.settings.system, method.settings.damping, method.settings.warmup_steps) == ("descent", 0.2, 7)
    assert (method.team_size, method.budget.steps) == (3, 30)


def test_an_unknown_setting_is_refused_with_the_close_one():
    with pytest.raises(SettingError, match="system_step: unknown setting; did you mean system_steps"):
        ImplicitScheduler(steps=30, system_step=7)
