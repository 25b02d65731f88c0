"""Modes are per module in training, and no pass but that of a training step moves the network's buffers."""

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations, spectral_norm

from selftune import Tune, tune
from selftune.diagnostics import Measurement
from selftune.methods import Response, WorkOrder
from selftune.objective import Classification, Optimization
from selftune.regularizer import regularizers
from selftune.training import Trainer

METHODS = {
    "self_tuning": {},
    "self_tuning, fixed scales": {"tune_scale": False},
    "self_tuning, STN": {"response": Response(centered=False, joint=True, linearize=False)},
    "implicit": {"system_steps": 2},
    "penalty": {},
    "inexact_line_search": {"train_steps": 6, "lanczos_steps": 2, "system_steps": 2},
}
"""Methods for networks by name, with settings that take few steps."""


def task(build, blobs):
    optimization = Optimization(batch_size=16, learning_rate=0.05)
    return Classification(build, blobs(96, 0), blobs(96, 1), blobs(48, 2), optimization)


def frozen_norm():
    """A norm layer that a user froze, with statistics that no batch has."""
    network = nn.Sequential(nn.Linear(6, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Dropout(0.9), nn.Linear(16, 3))
    network[1].running_mean.fill_(0.5)
    network[1].running_var.fill_(2.0)
    network[1].eval()
    network[3].eval()
    return network


def run(build, blobs, label, steps=24):
    method, settings = label.partition(",")[0], METHODS[label]
    trainers = 2 if method == "penalty" else 1
    return tune(
        task(build, blobs),
        {"label_smoothing": {"epsilon": Tune(0.1)}},
        steps=steps,
        warmup_steps=6,
        method=method,
        trainers=trainers,
        **settings,
    )


@pytest.mark.parametrize("label", METHODS)
def test_what_the_user_froze_stays_frozen(label, blobs):
    network = run(frozen_norm, blobs, label).network
    assert torch.equal(network[1].running_mean, torch.full((16,), 0.5))
    assert torch.equal(network[1].running_var, torch.full((16,), 2.0))
    assert network[1].num_batches_tracked == 0


@pytest.mark.parametrize("label", METHODS)
def test_dropout_in_evaluation_mode_is_no_dropout(label, blobs):
    def without():
        network = frozen_norm()
        network[3].p = 0.0
        return network

    first, second = (run(build, blobs, label).network.state_dict() for build in (frozen_norm, without))
    assert all(torch.equal(first[name], second[name]) for name in first)


def counting(layer):
    """A network whose norm layer counts, in a buffer, the passes that it is trained by."""

    def build():
        network = nn.Sequential(nn.Linear(6, 16), layer(), nn.ReLU(), nn.Linear(16, 3))
        network.register_buffer("passes", torch.zeros((), dtype=torch.long))
        network.register_forward_pre_hook(count)
        return network

    return build


def count(network, arguments):
    if network.training:
        network.passes += 1


@pytest.mark.parametrize("label", METHODS)
def test_buffers_move_once_in_every_training_step(label, blobs):
    network = run(counting(lambda: nn.BatchNorm1d(16)), blobs, label).network
    assert network.passes == network[1].num_batches_tracked > 0
    if label != "inexact_line_search":  # which takes trial steps
        assert network.passes == 24


POWER_ITERATIONS = {
    "hook": lambda: spectral_norm(nn.Linear(16, 16)),
    "parametrization": lambda: parametrizations.spectral_norm(nn.Linear(16, 16)),
}


@pytest.mark.parametrize("kind", POWER_ITERATIONS)
def test_evaluation_copies_and_second_passes_iterate_no_powers(kind, blobs):
    members = [regularizers[name]() for name in ("sam", "mean_teacher")]
    members.append(regularizers["label_smoothing"](epsilon=Tune(0.1)))
    diagnostics = [Measurement("softmax_collapse")]
    trainer = Trainer(task(counting(POWER_ITERATIONS[kind]), blobs), members, diagnostics=diagnostics)
    moved = []
    buffers = dict(trainer.lower.network.named_buffers())
    vector = next(tensor for name, tensor in buffers.items() if name.endswith("_u"))
    trainer.lower.optimizer.register_step_pre_hook(lambda *_: moved.append(vector.clone()))
    trainer.execute(WorkOrder("replay", {"segments": ((2, torch.tensor([0.1])),)}))
    before = {name: tensor.clone() for name, tensor in buffers.items()}
    trainer.measurements.take(0, 2)
    trainer.execute(WorkOrder("finish", {}))
    trainer.lower.validation_losses(0)
    assert all(torch.equal(before[name], tensor) for name, tensor in buffers.items())
    assert trainer.lower.network.passes == 2
    assert torch.equal(moved[-1], vector)


def test_trainers_leave_modes_alone(blobs):
    trainer = Trainer(task(frozen_norm, blobs), [regularizers["label_smoothing"](epsilon=Tune(0.1))])
    modules = list(trainer.lower.network.modules())
    before = [module.training for module in modules]
    trainer.execute(WorkOrder("replay", {"segments": ((2, torch.tensor([0.1])),)}))
    trainer.execute(WorkOrder("finish", {}))
    with trainer.lower.measuring(0):
        pass
    assert [module.training for module in modules] == before
    assert before.count(False) == 2
