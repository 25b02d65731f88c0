"""Every regularizer of the catalogue in a real trainer: it acts, it is tuned, it can be saved."""

import io

import pytest
import torch
from torch import nn

from selftune.hyperparameters import Tune
from selftune.methods import Response, WorkOrder
from selftune.objective import Classification, Optimization
from selftune.regularizer import regularizers
from selftune.training import Trainer

STARTS = {"max_norm": {"limit": 0.5}}
"""Starts at which a regularizer acts on a small network, where its default does not."""


def build():
    return nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 3))


@pytest.fixture(scope="module")
def objective():
    generator = torch.Generator().manual_seed(0)
    splits = []
    for examples in (96, 48, 48):
        labels = torch.arange(examples) % 3
        splits.append((torch.randn(examples, 6, generator=generator) + labels[:, None], labels))
    return Classification(build, *splits, Optimization(batch_size=16, learning_rate=0.05))


def tuned(name):
    """The regularizer with everything tuned that may be."""
    starts = {h.name: h.value for h in regularizers[name].hyperparameters if h.online and h.domain.movable}
    inside = {
        h.name: Tune(0.5 if not h.domain.is_interior(h.value) else None)
        for h in regularizers[name].hyperparameters
        if h.name in starts
    }
    return regularizers[name](**inside | {k: Tune(v) for k, v in STARTS.get(name, {}).items()})


def cycle(trainer, steps=4, hyper_step=0):
    n = len(trainer.space)
    body = {
        "unconstrained": trainer.space.start,
        "scale": torch.full((n,), 0.3),
        "level": "response",
        "settings": vars(Response(learning_rate=0.01)),
        "tune_scale": True,
        "hyper_step": hyper_step,
        "steps": steps,
        "hypergradient": True,
    }
    return WorkOrder("cycle", body)


def weights(trainer):
    return torch.cat([p.detach().flatten() for p in trainer.lower.parameters.values()])


@pytest.mark.parametrize("name", regularizers.names())
def test_it_changes_training_and_every_tuned_hyperparameter_has_a_response(objective, name):
    trainer, plain = Trainer(objective, [tuned(name)]), Trainer(objective, [])
    report = trainer.execute(cycle(trainer, steps=30))
    plain.execute(WorkOrder("replay", {"segments": ((30, torch.empty(0)),)}))
    assert not torch.allclose(weights(trainer), weights(plain), rtol=1e-6)
    assert report.kind == "cycle"
    for key in ("hypergradient", "scale_gradient"):
        assert torch.isfinite(report.payload[key]).all()
        assert (report.payload[key] != 0).all()


@pytest.mark.parametrize("name", regularizers.names())
def test_a_saved_trainer_goes_on_to_the_same_report(objective, name):
    first, second = (Trainer(objective, [tuned(name)]) for _ in range(2))
    first.execute(cycle(first))
    file = io.BytesIO()
    torch.save(first.state_dict(), file)
    file.seek(0)
    second.load_state_dict(torch.load(file, weights_only=False))
    reports = [trainer.execute(cycle(trainer, hyper_step=1)) for trainer in (first, second)]
    for key, tensor in reports[0].payload.items():
        assert torch.equal(tensor, reports[1].payload[key])
    assert torch.equal(weights(first), weights(second))


@pytest.mark.parametrize("name", regularizers.names())
def test_evaluation_and_the_exported_network_are_free_of_it(objective, name):
    trainer = Trainer(objective, [tuned(name)])
    trainer.execute(cycle(trainer))
    inputs = objective.splits()["test"]["inputs"]
    network = trainer.lower.network.eval()
    exported = trainer.plain_network()
    assert torch.equal(network(inputs), network(inputs))
    assert torch.equal(exported(inputs), network(inputs))


def test_max_norm_holds_after_every_step(objective):
    trainer = Trainer(objective, [tuned("max_norm")])
    trainer.execute(cycle(trainer, steps=10))
    for layer in (trainer.lower.network[0], trainer.lower.network[2]):
        assert (layer.weight.norm(dim=1) <= 0.5 * (1 + 1e-5)).all()


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_coupled_and_decoupled_decay_are_one_step_of_plain_sgd_and_two_of_adam(objective, optimizer):
    optimization = Optimization(batch_size=16, optimizer=optimizer, learning_rate=0.05, momentum=0.0)
    splits = [tuple(split.values()) for split in objective.splits().values()]
    trainers = []
    for name in ("weight_decay", "decoupled_weight_decay"):
        trainer = Trainer(Classification(build, *splits, optimization), [regularizers[name](strength=0.3)])
        trainer.execute(WorkOrder("replay", {"segments": ((1, torch.empty(0)),)}))
        trainers.append(trainer)
    assert torch.allclose(*(weights(t) for t in trainers), rtol=1e-5, atol=1e-6) is (optimizer == "sgd")


def test_decoupled_decay_leaves_the_moments_of_the_optimizer_alone(objective):
    optimization = Optimization(batch_size=16, optimizer="adam", learning_rate=0.05)
    splits = [tuple(split.values()) for split in objective.splits().values()]
    moments = []
    for chosen in ([], [regularizers["decoupled_weight_decay"](strength=0.3)]):
        trainer = Trainer(Classification(build, *splits, optimization), chosen)
        trainer.execute(WorkOrder("replay", {"segments": ((1, torch.empty(0)),)}))
        moments.append([state["exp_avg"] for state in trainer.lower.optimizer.state.values()])
    assert all(torch.equal(a, b) for a, b in zip(*moments, strict=True))
