"""Modes are per module in training, and no pass but that of a training step moves the network's buffers."""

import pytest
import torch
from method_runs import METHODS, NORMS, perceptron, run, task
from torch import nn
from torch.utils.checkpoint import checkpoint

from selftune import Tune
from selftune.methods.work_orders import FinishTraining, FollowSchedule
from selftune.registries.diagnostics import Measurement
from selftune.regularization.regularizer import regularizers
from selftune.training import Trainer


def frozen_norm():
    """A norm layer that a user froze, with statistics that no batch has."""
    network = nn.Sequential(nn.Linear(6, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Dropout(0.9), nn.Linear(16, 3))
    network[1].running_mean.fill_(0.5)
    network[1].running_var.fill_(2.0)
    network[1].eval()
    network[3].eval()
    return network


@pytest.mark.parametrize("label", METHODS)
def test_what_the_user_froze_stays_frozen(label):
    network = run(task(frozen_norm), label).network
    assert torch.equal(network[1].running_mean, torch.full((16,), 0.5))
    assert torch.equal(network[1].running_var, torch.full((16,), 2.0))
    assert network[1].num_batches_tracked == 0


@pytest.mark.parametrize("label", METHODS)
def test_dropout_in_evaluation_mode_is_no_dropout(label):
    def without():
        network = frozen_norm()
        network[3].p = 0.0
        return network

    first, second = (run(task(build), label).network.state_dict() for build in (frozen_norm, without))
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
def test_buffers_move_once_in_every_training_step(label):
    network = run(task(counting(lambda: nn.BatchNorm1d(16))), label).network
    assert network.passes == network[1].num_batches_tracked > 0
    if label != "inexact_line_search":  # which takes trial steps
        assert network.passes == 24


@pytest.mark.parametrize("kind", [kind for kind in NORMS if kind.startswith("spectral")])
def test_evaluation_copies_and_second_passes_iterate_no_powers(kind):
    members = [regularizers[name]() for name in ("sam", "mean_teacher")]
    members.append(regularizers["label_smoothing"](epsilon=Tune(0.1)))
    diagnostics = [Measurement("softmax_collapse")]
    trainer = Trainer(task(counting(lambda: NORMS[kind](nn.Linear(16, 16)))), members, diagnostics=diagnostics)
    moved = []
    buffers = dict(trainer.lower.network.named_buffers())
    vector = next(tensor for name, tensor in buffers.items() if name.endswith("_u"))
    trainer.lower.optimizer.register_step_pre_hook(lambda *_: moved.append(vector.clone()))
    trainer.execute(FollowSchedule(segments=((2, torch.tensor([0.1])),)))
    before = {name: tensor.clone() for name, tensor in buffers.items()}
    trainer.measurements.take(0, 2)
    trainer.execute(FinishTraining())
    trainer.lower.validation_losses(0)
    assert all(torch.equal(before[name], tensor) for name, tensor in buffers.items())
    assert trainer.lower.network.passes == 2
    assert torch.equal(moved[-1], vector)


def test_trainers_leave_modes_alone():
    trainer = Trainer(task(frozen_norm), [regularizers["label_smoothing"](epsilon=Tune(0.1))])
    modules = list(trainer.lower.network.modules())
    before = [module.training for module in modules]
    trainer.execute(FollowSchedule(segments=((2, torch.tensor([0.1])),)))
    trainer.execute(FinishTraining())
    with trainer.lower.measuring(0):
        pass
    assert [module.training for module in modules] == before
    assert before.count(False) == 2


class Block(nn.Module):
    """A layer with dropout, perhaps run again on the way back instead of kept."""

    def __init__(self, checkpointed):
        super().__init__()
        self.checkpointed = checkpointed
        self.inner = nn.Sequential(nn.Linear(16, 16), nn.Tanh(), nn.Dropout(0.5))

    def forward(self, inputs):
        if self.checkpointed:
            return checkpoint(self.inner, inputs, use_reentrant=False)
        return self.inner(inputs)


@pytest.mark.parametrize("label", [label for label in METHODS if not label.startswith("self_tuning")])
def test_modules_that_run_again_on_the_way_back_are_in_the_mode_of_the_way_there(label):
    ends = [run(task(lambda: perceptron(lambda: Block(kept))), label) for kept in (False, True)]  # noqa: B023
    assert ends[0].hyperparameters == ends[1].hyperparameters
    first, second = (end.network.state_dict() for end in ends)
    assert all(torch.equal(first[name], second[name]) for name in first)
