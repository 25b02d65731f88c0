"""What a network computes with goes along whole: buffers that no file would hold, weights that hooks compute."""

import copy

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations, spectral_norm, weight_norm

from selftune.networks.network_state import has_hooked_weight, load_state, state_of

NORMS = {
    "weight_norm, hook": weight_norm,
    "weight_norm, parametrization": parametrizations.weight_norm,
    "spectral_norm, hook": spectral_norm,
    "spectral_norm, parametrization": parametrizations.spectral_norm,
}


def with_loose_buffer(size=2):
    network = nn.Sequential(nn.Linear(2, 2))
    network[0].register_buffer("seen", torch.zeros(size), persistent=False)
    return network


def test_buffers_that_are_not_persistent_go_along():
    first, second = with_loose_buffer(), with_loose_buffer()
    first[0].seen += 3
    assert "0.seen" not in first.state_dict()
    load_state(second, state_of(first))
    assert torch.equal(second[0].seen, torch.full((2,), 3.0))


def test_they_may_have_grown():
    first, second = with_loose_buffer(5), with_loose_buffer()
    load_state(second, state_of(first))
    assert second[0].seen.shape == (5,)
    second[0].seen += 1
    assert (first[0].seen == 0).all()


def test_anything_else_that_does_not_fit_is_an_error():
    with pytest.raises(RuntimeError, match="extra"):
        load_state(with_loose_buffer(), state_of(with_loose_buffer()) | {"extra": torch.zeros(1)})


@pytest.mark.parametrize("kind", NORMS)
def test_weights_that_hooks_compute_are_those_of_the_loaded_tensors(kind):
    torch.manual_seed(0)
    first, second = (nn.Sequential(NORMS[kind](nn.Linear(30, 40))) for _ in range(2))
    first(torch.randn(5, 30))
    vectors = {name: buffer.clone() for name, buffer in first.named_buffers()}
    load_state(second, state_of(first))
    torch.testing.assert_close(second.eval()[0].weight, first.eval()[0].weight)  # in training they iterate
    assert all(torch.equal(buffer, vectors[name]) for name, buffer in second.named_buffers())
    assert has_hooked_weight(first[0]) is kind.endswith("hook")
    if kind != "weight_norm, parametrization":
        copy.deepcopy(second)
