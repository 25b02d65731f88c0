"""Passes beside training leave modules' modes and the network's buffers as they were."""

import torch
from torch import nn
from torch.nn.utils import parametrizations, spectral_norm

from selftune.networks.modes import constant_buffers, evaluating


class Merging(nn.Linear):
    """As low-rank adapters do: their product is in the weight in evaluation mode, and beside it in training."""

    def __init__(self):
        super().__init__(2, 2)
        self.merged = False

    def train(self, mode=True):
        self.merged = not mode
        return super().train(mode)


class AlwaysFrozen(nn.BatchNorm1d):
    """As a network that overrides ``train`` to keep its norm layers frozen."""

    def train(self, mode=True):
        return super().train(False)


class Average(nn.Module):
    """A custom norm layer: one average is moved in place, another one is replaced; a count is an integer."""

    def __init__(self):
        super().__init__()
        self.register_buffer("moved", torch.zeros(2))
        self.register_buffer("replaced", torch.zeros(2), persistent=False)
        self.register_buffer("count", torch.tensor(0))

    def forward(self, inputs):
        if self.training:
            mean = inputs.detach().mean(0)
            self.moved.lerp_(mean, 0.1)
            self.replaced = 0.9 * self.replaced + 0.1 * mean
            self.count += 1
        return inputs - self.moved


def test_every_module_gets_its_own_mode_back():
    network = nn.Sequential(nn.Sequential(nn.Dropout(), nn.BatchNorm1d(2)), nn.Dropout(), AlwaysFrozen(2))
    network[0].eval()
    network[0][1].train()
    network[2].eval()
    before = [module.training for module in network.modules()]
    with evaluating(network):
        assert not any(module.training for module in network.modules())
    assert [module.training for module in network.modules()] == before == [True, False, False, True, True, False]


def test_what_modules_do_when_their_mode_changes_is_done_and_undone():
    network = nn.Sequential(Merging(), Merging())
    network[1].eval()
    with evaluating(network):
        assert [layer.merged for layer in network] == [True, True]
    assert [layer.merged for layer in network] == [False, True]


def test_modes_are_restored_after_an_error():
    network = nn.Dropout()
    try:
        with evaluating(network):
            raise KeyError
    except KeyError:
        pass
    assert network.training


def pass_twice(network, inputs):
    """Buffers after one pass, and whether one more within ``constant_buffers`` left them alone; its gradients."""
    network(inputs)
    own = dict(network.named_buffers())
    before = {name: buffer.clone() for name, buffer in own.items()}
    with constant_buffers(network):
        outputs = network(inputs)
    outputs.square().sum().backward()  # the graph of the pass is as good as any
    after = dict(network.named_buffers())
    return all(after[name] is own[name] and torch.equal(after[name], before[name]) for name in own)


def test_buffers_of_any_kind_stay_as_they_are():
    inputs = torch.randn(4, 2)
    kinds = {
        "batch norm": nn.BatchNorm1d(2),
        "cumulative batch norm": nn.BatchNorm1d(2, momentum=None),
        "synchronised batch norm": nn.SyncBatchNorm(2),
        "instance norm": nn.Sequential(
            nn.Unflatten(1, (1, 2)), nn.InstanceNorm1d(1, track_running_stats=True), nn.Flatten()
        ),
        "spectral norm": spectral_norm(nn.Linear(2, 2)),
        "parametrized spectral norm": parametrizations.spectral_norm(nn.Linear(2, 2)),
        "custom": Average(),
    }
    for kind, layer in kinds.items():
        assert pass_twice(nn.Sequential(nn.Linear(2, 2), layer), inputs), kind


def test_passes_within_are_those_of_the_modules_own_modes():
    norm, inputs = nn.BatchNorm1d(2), torch.randn(8, 2) + 1
    trained = norm(inputs)
    with constant_buffers(norm):
        assert torch.equal(norm(inputs), trained)
    norm.eval()
    evaluated = norm(inputs)
    with constant_buffers(norm):
        assert torch.equal(norm(inputs), evaluated)
    assert not torch.allclose(trained, evaluated, atol=0.01)


def test_shared_buffers_stay_shared():
    first, second = Average(), Average()
    second.moved = first.moved
    with constant_buffers(nn.Sequential(first, second)):
        assert first.moved is second.moved
    assert first.moved is second.moved
