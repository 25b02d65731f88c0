"""Factored gates of a response: which hyperparameters are a row's own, how large they are, what is saved."""

from __future__ import annotations

import copy

import pytest
import torch
from orders import with_response
from torch import nn

from selftune import Classification, Optimization, Tune, tune
from selftune.methods import Response
from selftune.regularization.regularizer import regularizers
from selftune.training import Trainer
from selftune.training.estimators.gates import mixing_of, own_columns

UNITS, CLASSES = 12, 3


def network(units=UNITS):
    return nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(64, units),
        nn.ReLU(),
        nn.Linear(units, CLASSES),
    )


def objective(units=UNITS):
    generator = torch.Generator().manual_seed(0)
    data = torch.randn(48, 1, 4, 4, generator=generator), torch.arange(48) % CLASSES
    return Classification(lambda: network(units), data, data, data, Optimization(batch_size=8))


def members():
    return [
        regularizers["weight_decay"](parts="unit", strength=Tune(1e-2)),
        regularizers["dropout"](parts="unit", rate=Tune(0.1)),
        regularizers["label_smoothing"](parts="class", epsilon=Tune(0.1)),
    ]


def trained(settings, steps=6):
    trainer = Trainer(objective(), members())
    return trainer, trainer.execute(with_response(trainer, settings, steps, scale=0.5))


def test_rows_own_the_strengths_of_their_units_and_classes():
    trainer = Trainer(objective(), members())
    names, own = trainer.space.names, own_columns(trainer.lower)

    def of(tensor, row):
        return [names[column] for column in own[tensor][row].tolist()]

    channels = [
        f"dropout.rate[3.{channel}]" for channel in range(16, 32)
    ]  # the flattened map of the second filter
    assert of("0.weight", 1) == [*channels, "weight_decay.strength[0.1]"]
    assert of("3.weight", 5) == ["dropout.rate[5.5]", "weight_decay.strength[3.5]"]
    assert of("5.bias", 2) == ["label_smoothing.epsilon[2]", "weight_decay.strength[5.2]"]


def test_few_hyperparameters_have_full_gates_unless_others_are_asked_for():
    lower = Trainer(objective(), members()).lower
    assert mixing_of(lower, Response()) is None
    mixing = mixing_of(lower, Response(gates="factored"))
    assert mixing.hyperparameters == len(lower.space)
    assert mixing.width == 4 + CLASSES + 4  # of 76 rates, 3 smoothings, 19 strengths
    many = Trainer(objective(units=200), members()).lower
    assert len(many.space) > 256
    assert mixing_of(many, Response()).width == mixing.width
    assert mixing_of(many, Response(gates="full")) is None


def test_every_hyperparameter_gets_a_hypergradient_and_its_gates_are_fitted():
    trainer, report = trained({"gates": "factored"})
    found = report.tensors["hypergradient"]
    assert found.shape == (len(trainer.space),)
    assert (found != 0).all()
    response = trainer.estimator.response
    assert response.gates.shape[1] == 4 + CLASSES + 4
    assert (response.own[response._owns > 0] != 0).double().mean() > 0.8  # units may be dead
    assert (response.own[response._owns == 0] == 0).all()


def test_state_is_saved_and_restored():
    settings = {"gates": "factored"}
    trainer, _ = trained(settings)
    state = copy.deepcopy(trainer.state_dict())
    going_on = trainer.execute(with_response(trainer, settings, 4, scale=0.5))
    other = Trainer(objective(), members())
    other.load_state_dict(state)
    again = other.execute(with_response(other, settings, 4, scale=0.5))
    assert torch.equal(going_on.tensors["hypergradient"], again.tensors["hypergradient"])


@pytest.mark.parametrize("method", ["self_tuning", "implicit"])
def test_units_and_classes_are_tuned(method):
    noise = "dropout" if method == "self_tuning" else "gaussian_dropout"
    settings = {
        "weight_decay": {"parts": "unit", "strength": Tune(1e-2)},
        noise: {"parts": "unit", "rate": Tune(0.1)},
        "gaussian_input_noise": {"parts": "class", "sigma": Tune(0.1)},
    }
    more = {"response": Response(gates="factored")} if method == "self_tuning" else {}
    result = tune(objective(), settings, steps=12, warmup_steps=2, train_steps=5, method=method, **more)
    values = result.hyperparameters
    assert values["weight_decay.strength[0.0]"] != pytest.approx(1e-2, rel=1e-6)
    assert len({values[f"{noise}.rate[5.{unit}]"] for unit in range(UNITS)}) > 1
    assert len({values[f"gaussian_input_noise.sigma[{k}]"] for k in range(CLASSES)}) > 1
