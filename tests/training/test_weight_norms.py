"""Layers whose weight torch's norms compute, by a hook or by a parametrization, in training."""

import pytest
import torch
from method_runs import METHODS, NORMS, normed, run, task
from torch import nn

from selftune.errors import SettingError
from selftune.methods.work_orders import FollowSchedule
from selftune.regularization.regularizer import regularizers
from selftune.regularization.reparameterization import effective_weight
from selftune.training import Trainer


def trained(build, settings, steps=4):
    trainer = Trainer(task(build), [regularizers[name](**values) for name, values in settings.items()], steps=20)
    values = trainer.space.constrain(trainer.space.start)
    trainer.execute(FollowSchedule(segments=((steps, values),)))
    return trainer


@pytest.mark.parametrize("label", METHODS)
@pytest.mark.parametrize("kind", NORMS)
def test_they_train_under_every_method(kind, label):
    result = run(task(lambda: normed(NORMS[kind])), label)
    assert result.hyperparameters["label_smoothing.epsilon"] != 0.1 or label == "inexact_line_search"
    assert result.metrics["validation_loss"] < 1.0  # from about 1.2 at the start
    inputs = task(lambda: normed(NORMS[kind])).splits()["test"]["inputs"]
    weight = result.network[1].weight.detach().clone()  # no pass is needed to read it
    result.network(inputs)
    torch.testing.assert_close(result.network[1].weight, weight)


def test_hook_and_parametrization_of_weight_norm_are_one_training():
    """Up to rounding: they compute the same weight from tensors under other names."""
    ends = []
    for kind in ("weight_norm, hook", "weight_norm, parametrization"):
        objective = task(lambda: normed(NORMS[kind]).double(), dtype=torch.float64)  # noqa: B023
        names = {"weight_decay": {"strength": 0.1}, "mean_teacher": {}, "normalized_distillation": {}, "sam": {}}
        trainer = Trainer(objective, [regularizers[name](**values) for name, values in names.items()])
        trainer.execute(FollowSchedule(segments=((6, torch.empty(0)),)))
        ends.append(trainer.plain_network()(objective.splits()["test"]["inputs"]))
    torch.testing.assert_close(*ends, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("kind", NORMS)
def test_the_weight_that_is_read_is_the_one_that_the_layer_uses(kind):
    def build():
        return nn.Sequential(nn.Linear(6, 16), nn.Tanh(), NORMS[kind](nn.Linear(16, 3)))

    trainer = trained(build, {"weight_decay": {"strength": 0.1}})
    network, lower = trainer.lower.network, trainer.lower
    network.eval()(lower.objective.splits()["test"]["inputs"])
    before = {name: buffer.clone() for name, buffer in network.named_buffers()}
    used = network[2].weight.detach().clone()
    network.train()
    weight = effective_weight(network, "2", lower.parameters, lower.aliases)
    torch.testing.assert_close(weight, used)
    assert torch.autograd.grad(weight.square().sum(), [p for n, p in network[2].named_parameters() if n != "bias"])
    assert all(torch.equal(buffer, before[name]) for name, buffer in network.named_buffers())


@pytest.mark.parametrize("kind", NORMS)
def test_a_weight_that_is_computed_already_is_not_reparameterised(kind):
    parts = {"middle": ["1"]}
    with pytest.raises(SettingError, match=r"its weight is computed by .* already"):
        trained(lambda: normed(NORMS[kind]), {"low_rank_factorization": {"parts": parts}})


SPARSE = {
    "magnitude_pruning": {"every": 1, "sparsity": 0.9, "scope": "layer"},
    "group_sparse_envelope_proximal": {"strength": 5.0},
    "erdos_renyi_sparsity": {},
}


@pytest.mark.parametrize("kind", ["weight_norm, hook", "weight_norm, parametrization"])
@pytest.mark.parametrize("name", SPARSE)
def test_weights_that_are_divided_by_their_length_are_not_set_to_zero(name, kind):
    trainer = trained(lambda: normed(NORMS[kind]), {name: SPARSE[name]}, steps=16)
    network = trainer.lower.network
    assert all((parameter != 0).all() for parameter in network[1].parameters() if parameter.ndim > 1)
    assert (network[0].weight == 0).any()
    if name != "erdos_renyi_sparsity":  # which has no parts
        with pytest.raises(SettingError, match="cannot act on layer 1: weight_norm divides its weight"):
            trained(lambda: normed(NORMS[kind]), {name: {**SPARSE[name], "parts": {"middle": ["1"]}}})
