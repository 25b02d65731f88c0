"""Training steps of every regularizer: perturbed ones change nothing, and none waits for the device."""

import copy
from contextlib import nullcontext

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from trainers import NAMES, ONLINE, cycle, go_on, trainer_of, tuned

WAITS = {
    "fish": "takes a step for every domain of the batch",
    "hessian_diagonal_alignment": "has a row of averages for every domain of the batch",
    "hessian_gradient_alignment": "has a row of averages for every domain of the batch",
    "inter_environment_gradient_alignment": "has a gradient for every domain of the batch",
}
"""Names whose training steps look at the device, and why they have to."""


def one_hot(labels, classes):
    """What torch's does on devices; on the CPU it looks at the labels."""
    return (labels[..., None] == torch.arange(classes, device=labels.device)).long()


class NoLooks(TorchDispatchMode):
    """Refuses what would make the host wait for a device."""

    LOOKS = frozenset(
        {
            "_local_scalar_dense",
            "item",
            "nonzero",
            "masked_select",
            "is_nonzero",
            "equal",
            "_unique2",
            "unique_dim",
        }
    )

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func.overloadpacket.__name__
        assert name not in self.LOOKS, name
        if name in ("index", "index_put", "index_put_"):
            assert all(index is None or index.dtype != torch.bool for index in args[1]), "index by a mask"
        return func(*args, **(kwargs or {}))


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


def test_training_steps_do_not_wait_for_the_device(underway, monkeypatch):
    monkeypatch.setattr(torch.nn.functional, "one_hot", one_hot)
    train = training_of(underway.trainer)
    with pytest.raises(AssertionError) if underway.name in WAITS else nullcontext(), NoLooks():
        train()


def test_training_steps_make_tensors_where_the_batch_is(underway):
    train = training_of(underway.trainer)
    with torch.device("meta"):  # where tensors are made for which no device is named
        train()


def training_of(trainer):
    """What makes a training step where a trainer is, tuned where anything of it is online."""
    if trainer.estimator is not None:
        trainer.estimator.begin(cycle(trainer))
        return lambda: trainer.estimator.train(trainer.training_step)
    values = trainer.space.unpack(trainer.space.constrain(trainer.space.start))
    return lambda: trainer.lower.train(trainer.training_step, values)
