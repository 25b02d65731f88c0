"""Every regularizer of the catalogue in a real trainer: it acts, it is tuned, it can be saved and exported."""

import copy

import pytest
import torch
from conformance_objectives import mlp, vectors
from emulated_device import DEVICE, emulated_device
from trainers import (
    NAMES,
    RESPOND,
    SMOOTH,
    cycle,
    fixed,
    go_on,
    implicit_cycle,
    replay,
    trainer_of,
    tuned,
    weights,
    weights_without,
)

from selftune.lower_level.classification import Classification
from selftune.lower_level.optimization import Optimization
from selftune.methods.work_orders import FollowSchedule
from selftune.regularization.regularizer import overrides, regularizers
from selftune.storage.state_file import load_state, save_state
from selftune.training import Trainer

WITHOUT_EFFECT_ON_TRAINING = {"mean_teacher", "temporal_ensembling", "mean_aggregation"}
"""What only keeps something for others, or does what the engine does anyway."""

LOSS_HOOKS = ("batch", "targets", "losses", "penalty", "attach")

HAS_STOPPED_GRADIENTS = {
    "bellman_rank",
    "entropic_transport_cost",
    "hessian_gradient_alignment",
    "ordered_low_rank",
    "quantization_noise",
    "sinkhorn_divergence",
    "universal_self_distillation",
}
"""Names whose loss holds something constant that depends on the weights."""


WITH_STRENGTH = [
    name
    for name in NAMES
    if any(h.name == "strength" and h.domain.contains(0.0) for h in regularizers[name].hyperparameters)
    if name != "flag_aggregation"  # whose strength is that of pairs of workers
]


def assert_it_acts(name, trainer, dtype):
    here, there = weights(trainer), weights_without(name, dtype)
    assert torch.isfinite(here).all()
    assert all(p.dtype == dtype for p in trainer.plain_network().parameters())
    changed = here.shape != there.shape or not torch.allclose(here, there, rtol=1e-5, atol=1e-7)
    assert changed is (name not in WITHOUT_EFFECT_ON_TRAINING)


@pytest.mark.full
@pytest.mark.parametrize("name", NAMES)
def test_it_trains_and_is_tuned_in_half_precision(name):
    trainer = trainer_of(name, fixed(name), torch.bfloat16)
    assert replay(trainer, 3).kind == "replay"
    assert all(p.dtype == torch.bfloat16 for p in trainer.plain_network().parameters())
    for make, only_smooth, responds in ((cycle, False, has_a_response), (implicit_cycle, True, is_in_the_loss)):
        members = tuned(name, only_smooth)
        trainer = trainer_of(name, members, torch.bfloat16)
        if len(trainer.space) and responds(members[0]):
            report = trainer.execute(make(trainer, steps=4))
            assert report.kind == "cycle", report.message
            assert torch.isfinite(report.tensors["hypergradient"]).all()


def test_it_trains_and_changes_training(replayed):
    assert replayed.report.kind == "replay", replayed.report.message
    assert_it_acts(replayed.name, replayed.trainer, torch.float32)


@pytest.mark.full
@pytest.mark.parametrize("name", NAMES)
def test_it_trains_and_changes_training_in_double_precision(name):
    trainer = trainer_of(name, fixed(name), torch.float64)
    report = replay(trainer)
    assert report.kind == "replay", report.message
    assert_it_acts(name, trainer, torch.float64)


def test_evaluation_and_the_exported_network_are_free_of_it(replayed):
    trainer = replayed.trainer
    inputs = trainer.lower.objective.splits()["test"]["inputs"]
    network = copy.deepcopy(trainer.lower.network).eval()
    exported = trainer.plain_network()
    plain = trainer.lower.objective.network()
    trainer.lower.regularizers.extend(plain)
    assert set(exported.state_dict()) == set(plain.state_dict())
    assert torch.equal(network(inputs), network(inputs))
    torch.testing.assert_close(exported(inputs), network(inputs))


@pytest.mark.parametrize("name", WITH_STRENGTH)
def test_without_strength_training_is_what_it_is_without_the_regularizer(name):
    trainer = trainer_of(name, fixed(name, strength=0.0))
    replay(trainer)
    assert torch.equal(weights(trainer), weights_without(name))


@pytest.mark.parametrize("name", [n for n in NAMES if any(overrides(regularizers[n](), h) for h in LOSS_HOOKS)])
def test_gradients_of_the_loss_agree_with_finite_differences(name):
    trainer = trainer_of(name, fixed(name), torch.float64)
    replay(trainer, steps=3)
    lower = trainer.lower
    parameters = [p for p in lower.parameters.values() if p.requires_grad]
    values = trainer.space.values(trainer.space.start)

    def loss():
        step = lower.begin(3, lower.batches.at(3), values, "elementary", perturbed=True)
        return lower.loss(step, lower.network, lower.parameters)

    gradients = torch.autograd.grad(loss(), parameters, materialize_grads=True)
    generator = torch.Generator().manual_seed(0)
    directions = [torch.randn(p.shape, generator=generator, dtype=p.dtype) for p in parameters]
    slope = sum(float((g * d).sum()) for g, d in zip(gradients, directions, strict=True))
    ends = []
    for sign in (1, -2):
        with torch.no_grad():
            for parameter, direction in zip(parameters, directions, strict=True):
                parameter += sign * 1e-8 * direction
        ends.append(float(loss().detach()))
    numeric = (ends[0] - ends[1]) / 2e-8
    agrees = abs(slope - numeric) <= 1e-5 * max(1.0, abs(slope))
    assert agrees is (name not in HAS_STOPPED_GRADIENTS), (slope, numeric)


@pytest.mark.parametrize("name", RESPOND)
def test_self_tuning_finds_a_finite_hypergradient_of_what_is_online(name):
    trainer = trainer_of(name, tuned(name))
    report = trainer.execute(cycle(trainer, steps=12))
    assert report.kind == "cycle", report.message
    for key in ("hypergradient", "scale_gradient"):
        assert torch.isfinite(report.tensors[key]).all()
        assert (report.tensors[key] != 0).any()


@pytest.mark.parametrize("name", SMOOTH)
def test_implicit_differentiation_finds_a_finite_hypergradient_of_what_is_smooth(name):
    trainer = trainer_of(name, tuned(name, only_smooth=True))
    report = trainer.execute(implicit_cycle(trainer, steps=8))
    assert report.kind == "cycle", report.message
    assert torch.isfinite(report.tensors["hypergradient"]).all()
    assert (report.tensors["hypergradient"] != 0).any()


def test_a_saved_trainer_goes_on_to_the_same_report(underway, tmp_path):
    """On a device, although a file is read on the CPU."""
    with emulated_device():
        first, second = underway.trainer, trainer_of(underway.name, tuned(underway.name), device=DEVICE.type)
        save_state(tmp_path / "state", first.state_dict(), "state")
        second.load_state_dict(load_state(tmp_path / "state", "state"))
        reports = [go_on(trainer, 3) for trainer in (first, second)]
        assert reports[0].kind in ("cycle", "replay"), reports[0].message
        for key, tensor in reports[0].tensors.items():
            assert torch.equal(tensor, reports[1].tensors[key])
        assert torch.equal(weights(first), weights(second))


def test_max_norm_holds_after_every_step():
    trainer = trainer_of("max_norm", fixed("max_norm"))
    replay(trainer, steps=10)
    for layer in (trainer.lower.network[0], trainer.lower.network[2]):
        assert (layer.weight.norm(dim=1) <= 0.5 * (1 + 1e-5)).all()


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_coupled_and_decoupled_decay_are_one_step_of_plain_sgd_and_two_of_adam(optimizer):
    optimization = Optimization(batch_size=16, optimizer=optimizer, learning_rate=0.05, momentum=0.0)
    trainers = []
    for name in ("weight_decay", "decoupled_weight_decay"):
        trainer = Trainer(Classification(mlp, *vectors(), optimization), [regularizers[name](strength=0.3)])
        trainer.execute(FollowSchedule(segments=((1, torch.empty(0)),)))
        trainers.append(trainer)
    assert torch.allclose(*(weights(t) for t in trainers), rtol=1e-5, atol=1e-6) is (optimizer == "sgd")


def test_decoupled_decay_leaves_the_moments_of_the_optimizer_alone():
    optimization = Optimization(batch_size=16, optimizer="adam", learning_rate=0.05)
    moments = []
    for chosen in ([], [regularizers["decoupled_weight_decay"](strength=0.3)]):
        trainer = Trainer(Classification(mlp, *vectors(), optimization), chosen)
        trainer.execute(FollowSchedule(segments=((1, torch.empty(0)),)))
        moments.append([state["exp_avg"] for state in trainer.lower.optimizer.state.values()])
    assert all(torch.equal(a, b) for a, b in zip(*moments, strict=True))
