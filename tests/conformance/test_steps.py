"""Training steps of every regularizer: perturbed ones change nothing, and none waits for a device."""

import copy

import pytest
import torch
from emulated_device import emulated_device, listed
from trainers import NAMES, ONLINE, cycle, go_on, trainer_of, tuned

from selftune.regularization.regularizer import regularizers


def state_of(lower):
    """A copy of everything that a training step may change, moved apart from what goes on."""
    return copy.deepcopy({"network": lower.network.state_dict(), "regularizers": lower.regularizers.state_dict()})


def tensors_of(state):
    if isinstance(state, torch.Tensor):
        return [state]
    if isinstance(state, dict):
        return [tensor for value in state.values() for tensor in tensors_of(value)]
    if isinstance(state, list | tuple):
        return [tensor for value in state for tensor in tensors_of(value)]
    return []


def same(first, second):
    return all(torch.equal(a, b) for a, b in zip(tensors_of(first), tensors_of(second), strict=True))


def loss_of(trainer, number, perturbed):
    """The loss of a training step, and where its random numbers ended."""
    lower = trainer.lower
    values = trainer.space.values(trainer.space.start)
    step = lower.begin(number, lower.batches.at(number), values, "elementary", perturbed=perturbed)
    loss = lower.loss(step, lower.network, lower.parameters)
    return loss, step.generator.get_state()


def test_perturbed_steps_change_no_state_and_draw_the_same(replayed):
    trainer, number = replayed.trainer, replayed.trainer.training_step
    lower = trainer.lower
    buffers = {key: buffer.clone() for key, buffer in lower.network.named_buffers()}
    before = state_of(lower)
    first, draws = loss_of(trainer, number, perturbed=True)
    for key, buffer in lower.network.named_buffers():  # whose running statistics the engine freezes
        buffer.copy_(buffers[key])
    assert same(before, state_of(lower))
    again, _ = loss_of(trainer, number, perturbed=True)
    for key, buffer in lower.network.named_buffers():
        buffer.copy_(buffers[key])
    assert torch.equal(first, again)
    _, of_unperturbed = loss_of(trainer, number, perturbed=False)
    assert torch.equal(draws, of_unperturbed)


@pytest.mark.parametrize("underway", ONLINE, indirect=True)
def test_response_steps_change_only_the_response(underway):
    trainer = underway.trainer
    with emulated_device():
        before = state_of(trainer.lower)
        trainer.estimator.begin(cycle(trainer))
        trainer.estimator.fit(trainer.training_step, trainer.lower.batches.at(trainer.training_step))
        assert same(before, state_of(trainer.lower))


PASSES = {"fish": 2}
"""Passes of a training step on parts of the batch, which see every example once: a domain each."""


def count(network, arguments):
    if network.training:
        network.passes += 1


@pytest.mark.parametrize("name", sorted(set(NAMES) - {"self_distillation_targets"}))  # which starts networks anew
def test_buffers_see_every_batch_once(name):
    trainer = trainer_of(name, tuned(name))
    network = trainer.lower.network
    network.register_buffer("passes", torch.tensor(0))
    network.register_forward_pre_hook(count)
    go_on(trainer, 3)  # with response steps and a hypergradient where anything is online
    shards = {r.name: r.bound["workers"].value for r in trainer.lower.regularizers.members if "workers" in r.bound}
    assert network.passes == 3 * PASSES.get(name, shards.get(name, 1))


def test_the_host_waits_for_the_device_once_per_hyper_step(underway):
    """Training steps, response steps and a hypergradient, then a look at all that the report says."""
    with emulated_device() as watch:
        go_on(underway.trainer, 2)
    looks = [event for event in watch.events if event.kind != "kernel"]
    of_report = [event for event in looks if event.kind == "to host" and "look.py" in event.where]
    assert len(of_report) == 1
    # the values of the order, and the scales of perturbations
    of_order = [event for event in looks if event.kind == "to device" and "nested.py" in event.where]
    assert len(of_order) <= 3
    others = [event for event in looks if event not in of_report + of_order]
    waits = regularizers[underway.name].waits is not None
    assert bool(others) is waits, listed(others)
    assert all(event.kind == "look" for event in others), listed(others)
