import copy
import pickle
import random

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from ordinary_networks import (
    ORDINARY,
    Counting,
    Frozen,
    Functional,
    HeadFirst,
    Recurrent,
    Tied,
    TiedHead,
    objective_of,
)
from torch import nn

from selftune.errors import SettingError
from selftune.networks.inventory import Feed, aliases, take_inventory, tensors_of


def taken(network, shape=(8,), examples=4):
    return take_inventory(network, Feed(lambda n, size: n(torch.ones(size, *shape)), examples))


def names(inventory):
    return [layer.name for layer in inventory.layers]


def test_layers_come_in_the_order_in_which_they_run():
    inventory = taken(HeadFirst())
    assert names(inventory) == ["body", "head"]
    assert inventory.last == "head"
    assert inventory.last_runs
    assert inventory["body"].calls == 1
    assert inventory["body"].type == "Linear"


def test_a_layer_that_is_called_again_at_the_end_comes_last():
    class Loop(nn.Module):
        def __init__(self):
            super().__init__()
            self.cell, self.other = nn.Linear(8, 8), nn.Linear(8, 8)

        def forward(self, x):
            return self.cell(self.other(self.cell(x)))

    inventory = taken(Loop())
    assert names(inventory) == ["other", "cell"]
    assert inventory["cell"].calls == 2


def test_all_tensors_of_two_axes_are_weights_whatever_they_are_called():
    inventory = taken(Recurrent())
    assert {name: inventory[name].weights for name in names(inventory)} == {
        "embedding": ("embedding.weight",),
        "": ("positions",),
        "lstm": ("lstm.weight_ih_l0", "lstm.weight_hh_l0"),
        "encoder.self_attn": ("encoder.self_attn.in_proj_weight",),
        "encoder.self_attn.out_proj": ("encoder.self_attn.out_proj.weight",),
        "encoder.linear1": ("encoder.linear1.weight",),
        "encoder.linear2": ("encoder.linear2.weight",),
        "head": ("head.weight",),
    }
    assert sum(inventory.sizes[w] for layer in inventory.layers for w in layer.weights) == 562
    assert inventory[""].encloses
    assert not inventory["lstm"].encloses
    assert inventory["encoder.self_attn"].inputs == 3
    assert not inventory["embedding"].floating
    assert not inventory["lstm"].plain_output


def test_weights_used_without_their_layer_are_noticed():
    inventory = taken(Functional())
    first, last = inventory["first"], inventory["last"]
    assert first.used
    assert first.functional
    assert first.calls == 0
    assert not last.functional
    attention = taken(Recurrent())["encoder.self_attn.out_proj"]
    assert attention.functional
    assert attention.calls == 0


def test_asking_for_a_shape_uses_nothing():
    class Asks(Functional):
        def forward(self, x):
            assert self.first.weight.shape[0] == self.first.weight.size(0) == len(self.first.weight)
            return self.last(x.new_zeros(len(x), 16).to(self.first.weight.dtype))

    assert not taken(Asks())["first"].used


def test_a_weight_that_is_used_last_without_a_layer_is_no_last_layer_to_look_into():
    class Decoder(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.second = nn.Linear(8, 16), nn.Linear(16, 8)

        def forward(self, x):
            return F.linear(F.linear(self.second(self.first(x)), self.first.weight), self.second.weight)

    inventory = taken(Decoder())
    assert inventory.last == "second"
    assert not inventory.last_runs


def test_what_only_training_uses_is_found():
    class Auxiliary(HeadFirst):
        def forward(self, x):
            return super().forward(x) + self.extra(x) if self.training else super().forward(x)

        def __init__(self):
            super().__init__()
            self.extra, self.dead = nn.Linear(8, 3), nn.Linear(8, 3)

    inventory = taken(Auxiliary())
    assert [layer.name for layer in inventory.layers if layer.used] == ["body", "extra", "head"]
    assert not inventory["dead"].used
    assert inventory.last == "head"


@pytest.mark.parametrize(("shape", "axis"), [((8,), 0), ((4, 8), 0), ((2, 8), 0)])
def test_the_batch_axis_is_told_from_one_of_the_same_length(shape, axis):
    assert taken(nn.Linear(8, 3), shape)[""].batch_axis == axis


def test_a_batch_axis_may_be_the_second_one_or_folded_into_another():
    class Moved(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.second = nn.Linear(8, 8), nn.Linear(8, 8)

        def forward(self, x):
            return self.second(self.first(x.transpose(0, 1)).transpose(0, 1).flatten(0, 1))

    inventory = taken(Moved(), (3, 8))
    assert inventory["first"].batch_axis == 1
    assert inventory["second"].batch_axis is None


def test_a_tensor_with_two_names_counts_under_the_first():
    inventory = taken(Tied())
    assert inventory.tied == (("a.weight", "b.weight"),)
    assert inventory["a"].weights == inventory["b"].weights == ("a.weight",)
    assert inventory["a"].tied == ("b",)
    assert inventory["out"].tied == ()
    assert inventory.canonical("b.weight") == "a.weight"
    assert "b.weight" not in inventory.sizes
    network = TiedHead()
    assert list(tensors_of(network)) == ["head.weight", "mix.weight", "mix.bias"]
    assert aliases(network) == {"embedding.weight": "head.weight"}


def test_frozen_parametrised_and_buffered_tensors():
    inventory = taken(Frozen())
    assert inventory.frozen == {"0.weight", "0.bias"}
    assert [layer.trained for layer in inventory.layers] == [False, True]
    parametrised = taken(ORDINARY["orthogonal"]())["0"]
    assert parametrised.parametrized
    assert parametrised.weight
    assert parametrised.weights == ("0.parametrizations.weight.original",)
    network = nn.Sequential(nn.Linear(8, 4), nn.BatchNorm1d(4))
    network.register_buffer("scratch", torch.zeros(1), persistent=False)
    buffers = taken(network).buffers
    assert buffers["1.running_mean"]
    assert not buffers["scratch"]


def test_the_network_and_the_random_streams_are_what_they_were():
    network = nn.Sequential(nn.Linear(8, 4), nn.BatchNorm1d(4), nn.Dropout(0.5), nn.Linear(4, 3), nn.Linear(3, 3))
    network[1].eval()
    # the weight of the last layer stays unused, so that a pass in the network's own mode follows
    network[4].forward = lambda x: (
        x + torch.rand(()) + random.random() + np.random.rand()
    )  # its weight stays unused
    before = copy.deepcopy(network.state_dict())
    modes = [module.training for module in network.modules()]
    streams = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].copy()
    taken(network)
    assert modes == [module.training for module in network.modules()]
    assert all(torch.equal(before[name], tensor) for name, tensor in network.state_dict().items())
    assert torch.equal(streams[0], torch.get_rng_state())
    assert streams[1] == random.getstate()
    assert (streams[2] == np.random.get_state()[1]).all()
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in network.modules())


def test_an_objective_builds_its_network_once_to_be_looked_at():
    built = []

    def build():
        built.append(torch.rand(()))
        return Counting()

    before = torch.get_rng_state()
    objective = objective_of(build)
    assert objective.layers() == ("first", "last")
    assert objective.inventory() is objective.inventory()
    assert objective.structure() is objective.structure()
    assert len(built) == 1
    assert torch.equal(before, torch.get_rng_state())


def test_the_network_that_is_looked_at_does_not_travel():
    objective = objective_of(HeadFirst)
    objective.inventory()
    sent = pickle.loads(pickle.dumps(objective))
    assert not any(isinstance(value, nn.Module) for value in vars(sent).values())
    assert sent.inventory() == objective.inventory()


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: 1 / 0, "the network cannot be built here: division by zero"),
        (lambda: nn.Linear(5, 3), "the network does not run on examples of the data: "),
    ],
)
def test_a_network_that_cannot_run_is_one_sentence(build, message):
    with pytest.raises(SettingError, match=message):
        objective_of(build).inventory()
