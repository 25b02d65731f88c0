"""Pairs of trials through Ray Tune train as they do in one process; no Ray is started."""

import pytest
import torch
from fake_tune import FakeTune
from ray_fakes import Recorder
from torch import nn

from selftune.errors import SettingError
from selftune.hyperparameters import Tune
from selftune.lower_level.classification import Classification
from selftune.lower_level.optimization import Optimization
from selftune.methods import Budget, Penalty, PenaltySettings
from selftune.regularization.regularizer import regularizers
from selftune.schedulers import PenaltyScheduler, trainable
from selftune.training import TrainerFactory, run_in_process

SETTINGS = {"warmup_steps": 6, "train_steps": 2, "learning_rate": 0.1, "checkpoint_every": 3}
STEPS = 30


def data(seed):
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(24) % 3
    return torch.randn(24, 4, generator=generator) + labels[:, None], labels


def network():
    return nn.Linear(4, 3)


FACTORY = TrainerFactory(
    Classification(network, data(0), data(1), data(2), Optimization(batch_size=8, learning_rate=0.1)),
    [regularizers["weight_decay"](strength=Tune(1e-2)), regularizers["label_smoothing"](epsilon=Tune(0.05))],
    group_size=2,
)


def hyper_steps(recorder):
    """Without the seconds, which differ from run to run."""
    return [event[1:3] + event[4:] for event in recorder.of("hyper_step")]


def alone(team_size, **changes):
    recorder = Recorder()
    method = Penalty(Budget(steps=STEPS), PenaltySettings(**SETTINGS | changes), team_size)
    reports = run_in_process(method, {member: FACTORY(member) for member in range(team_size)}, recorder)
    return hyper_steps(recorder), {m: {k: t.tolist() for k, t in r.tensors.items()} for m, r in reports.items()}


def make(team_size, seed, kill=0.0, **changes):
    recorder = Recorder()
    scheduler = PenaltyScheduler(
        steps=STEPS, team_size=team_size, listener=lambda team: recorder, **SETTINGS | changes
    )
    return FakeTune(scheduler, trainable(FACTORY), team_size, seed=seed, kill=kill), recorder


@pytest.mark.usefixtures("node", "local_trainables")
class TestWithoutRay:
    @pytest.fixture(autouse=True)
    def _room(self, node):
        node(CPU=8)

    @pytest.mark.parametrize("kill", [0.0, 0.1])
    @pytest.mark.parametrize("changes", [{}, {"momentum": 0.3, "train_steps": 1}], ids=["double", "single"])
    @pytest.mark.parametrize("team_size", [2, 4])
    def test_a_team_takes_the_steps_of_one_process(self, team_size, changes, kill):
        tune, recorder = make(team_size, seed=1, kill=kill, **changes)
        tune.run()
        steps, payloads = alone(team_size, **changes)
        assert len(steps) == (STEPS - 6) / changes.get("train_steps", 2)
        assert hyper_steps(recorder) == steps
        members = tune.scheduler.teams[0].members
        assert {m: {k: t.tolist() for k, t in e.final.tensors.items()} for m, e in members.items()} == payloads
        assert not recorder.of("lost")
        assert (tune.kills > 0) is (kill > 0)

    def test_a_killed_driver_goes_on_from_its_snapshot(self):
        first, _ = make(2, seed=2)
        while not first.scheduler.teams or (first.scheduler.teams[0].hyper_step or 0) < 4:
            first.step()
        first.checkpoint()
        snapshot = first.snapshots[-1]
        after = Recorder()
        first.restored(snapshot, snapshot, listener=lambda team: after).run()
        steps, _ = alone(2)
        resumed = hyper_steps(after)
        assert 0 < len(resumed) < len(steps)
        assert resumed == steps[-len(resumed) :]


def test_settings_reach_the_method():
    method = PenaltyScheduler(steps=30, team_size=4, warmup_steps=7, sigma=0.2, batches=3).make_method()
    assert (method.settings.sigma, method.settings.batches) == (0.2, 3)
    assert method.team_size == 4
    assert method.budget.steps == 30


def test_an_unknown_setting_is_refused_with_the_close_one():
    with pytest.raises(SettingError, match="sigma_decy: unknown setting; did you mean sigma_decay"):
        PenaltyScheduler(steps=30, sigma_decy=0.5)


def test_a_team_that_is_not_made_of_pairs_is_refused():
    with pytest.raises(SettingError, match="must be a multiple of 2"):
        PenaltyScheduler(steps=30, team_size=3)
