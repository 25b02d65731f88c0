import pytest
import torch
import torch.nn.functional as F
from ordinary_networks import Recurrent, Tied, objective_of
from torch import nn

from selftune.errors import SettingError
from selftune.hyperparameters import Hyperparameter, Integer, Tune
from selftune.methods import Response
from selftune.registries.reference import Reference
from selftune.regularization.regularizer import Regularizer, regularizers
from selftune.studies.tune import tune
from selftune.training import Trainer
from selftune.training.paths import pathless

DOMAINS = {"domains": tuple(torch.arange(32) % 2 for _ in range(3))}


def found(build, *members, steps=None, differentiated=True):
    trainer = Trainer(objective_of(build, extra=DOMAINS), members, steps=steps)
    return [mistake.key for mistake in pathless(trainer.lower, differentiated)]


class FrozenBody(nn.Module):
    def __init__(self):
        super().__init__()
        self.body, self.head = nn.Linear(8, 16), nn.Linear(16, 3)
        self.body.requires_grad_(False)

    def forward(self, x):
        return self.head(F.relu(self.body(x)))


@pytest.mark.parametrize("method", ["self_tuning", "implicit", "penalty", "inexact_line_search"])
def test_what_changes_nothing_that_is_trained_is_refused_by_every_method(method):
    settings = {"supervised_contrastive": {"strength": Tune(0.1)}, "label_smoothing": {"epsilon": Tune(0.1)}}
    trainers = 2 if method == "penalty" else 1
    with pytest.raises(SettingError, match=r"supervised_contrastive.strength: changes nothing that is trained"):
        tune(objective_of(FrozenBody, 96), settings, steps=400, method=method, trainers=trainers)


def test_a_path_is_no_value():
    """Penalties that are zero now, or whose gradient is, have a path all the same."""

    class Zero(nn.Module):
        def __init__(self):
            super().__init__()
            self.body, self.head = nn.Linear(8, 16), nn.Linear(16, 3)
            nn.init.zeros_(self.body.weight)

        def forward(self, x):
            return self.head(torch.relu(self.body(x)))

    parts = {"body": ["body"]}
    assert found(Zero, regularizers["weight_decay"](parts=parts, strength=Tune(0.1))) == []


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("fishr", {"strength": Tune(10.0), "anneal": 50}),
        ("invariant_risk_minimization", {"strength": Tune(10.0), "anneal": 50}),
        ("risk_extrapolation", {"strength": Tune(10.0), "anneal": 50}),
        ("delayed_dropout", {"rate": Tune(0.3), "start": 0.9}),
        ("nuclear_norm", {"strength": Tune(1e-3), "every": 7}),
    ],
)
def test_what_comes_into_play_later_is_judged_where_it_is_due(name, settings):
    for differentiated in (False, True):
        assert found(FrozenBody, regularizers[name](**settings), steps=100, differentiated=differentiated) == []


class Crop(Regularizer):
    """The loss is a function of its size, without a derivative."""

    name, family, kind, reference = "crop", "test", "augment", Reference("test")
    hyperparameters = (Hyperparameter("size", Integer(0, 6), 3),)

    def batch(self, step):
        step.inputs = step.inputs * (torch.arange(8) >= self.value(step, "size").reshape(-1, 1))


def test_only_methods_that_differentiate_need_a_derivative():
    assert found(FrozenBody, Crop(size=Tune())) == ["crop.size"]
    assert found(FrozenBody, Crop(size=Tune()), differentiated=False) == []


def test_the_judgement_changes_nothing():
    first, second = (
        Trainer(objective_of(Recurrent), [regularizers["weight_decay"](strength=Tune(0.1))]) for _ in range(2)
    )
    with torch.random.fork_rng():
        assert list(pathless(first.lower, True)) == list(pathless(first.lower, False)) == []
    assert all(p.grad is None for p in first.lower.network.parameters())
    for trainer in (first, second):
        trainer.lower.train(0, trainer.space.values(trainer.space.start))
    pairs = zip(first.lower.network.parameters(), second.lower.network.parameters(), strict=True)
    assert all(torch.equal(one, other) for one, other in pairs)


def test_an_operation_without_a_second_derivative_is_given_the_benefit_of_the_doubt():
    class Once(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x, weight):
            ctx.save_for_backward(x, weight)
            return x @ weight.T

        @staticmethod
        @torch.autograd.function.once_differentiable
        def backward(ctx, gradient):
            x, weight = ctx.saved_tensors
            return gradient @ weight, gradient.T @ x

    class Custom(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(0.1 * torch.randn(3, 8))

        def forward(self, x):
            return Once.apply(x, self.weight)

    assert found(Custom, regularizers["gaussian_input_noise"](sigma=Tune(0.1))) == []


class OwnForward(nn.LSTM):
    def forward(self, x):
        return super().forward(x)


class WithoutRule(Recurrent):
    def __init__(self):
        super().__init__()
        self.lstm = OwnForward(4, 6, batch_first=True)


def test_weights_without_a_response_alone_are_refused_by_self_tuning_only():
    settings = {"weight_decay": {"strength": Tune(0.1), "parts": {"memory": ["lstm"], "head": ["head"]}}}
    plain = Response(without_rule="plain")
    key = r"weight_decay.strength\[memory\]: acts on lstm.weight_hh_l0"
    with pytest.raises(SettingError, match=key):
        tune(objective_of(WithoutRule), settings, steps=40, warmup_steps=10, response=plain)
    run = {"steps": 40, "warmup_steps": 10}
    assert tune(objective_of(WithoutRule), settings, **run, method="implicit").trajectory
    assert tune(objective_of(WithoutRule), settings, **run).trajectory, "they respond in weight space"
    together = {"weight_decay": {"strength": Tune(0.1)}}
    assert tune(objective_of(WithoutRule), together, **run, response=plain).trajectory


def test_tied_weights_respond():
    settings = {"weight_decay": {"strength": Tune(0.1), "parts": {"tied": ["a"], "head": ["out"]}}}
    result = tune(objective_of(Tied), settings, steps=40, warmup_steps=10)
    assert result.hyperparameters["weight_decay.strength[tied]"] != 0.1
