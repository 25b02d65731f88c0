"""What is captured are values that layers gave, also where the network writes over them."""

import pytest
import torch
from method_runs import blobs, in_place, task
from torch import nn

from selftune.training.capture import Capture


def out_of_place():
    network = in_place()
    for module in network:
        if hasattr(module, "inplace"):
            module.inplace = False
    return network


def captured(network, capture, inputs):
    with capture.recording() as seen:
        return capture.outputs(network(inputs), seen)


@pytest.mark.parametrize("gradients", [True, False])
def test_values_that_the_network_writes_over_are_seen_as_they_were(gradients):
    outputs = []
    for build in (in_place, out_of_place):
        torch.manual_seed(0)
        network = build()
        capture = Capture(network, task(build).inventory())
        with torch.set_grad_enabled(gradients):
            # the first pass, and one that knows what is written over
            outputs += [captured(network, capture, blobs(8, 0)[0]) for _ in range(2)]
    assert all((values < 0).any() for values in outputs[0].layer_features)
    for other in outputs[1:]:
        assert torch.equal(other.features, outputs[0].features)
        assert all(torch.equal(a, b) for a, b in zip(other.layer_features, outputs[0].layer_features, strict=True))


def test_gradients_flow_through_them():
    gradients = []
    for build in (in_place, out_of_place):
        torch.manual_seed(0)
        network = build()
        seen = captured(network, Capture(network, task(build).inventory()), blobs(8, 0)[0])
        loss = seen.logits.square().sum() + seen.layer_features[0].square().sum() + seen.features.sum()
        gradients.append(torch.autograd.grad(loss, list(network.parameters())))
    torch.testing.assert_close(*gradients)  # in place, slopes follow from what was given


def test_what_is_left_alone_is_copied_once_and_then_no_more():
    network = out_of_place()
    given = []
    network[0].register_forward_hook(lambda module, arguments, output: given.append(output))
    capture = Capture(network, task(out_of_place).inventory())
    first, second = (captured(network, capture, blobs(8, 0)[0]).layer_features[0] for _ in range(2))
    assert first is not given[0]
    assert second is given[1]


def test_a_layer_written_over_in_some_passes_only_is_refused():
    network = out_of_place()
    capture = Capture(network, task(out_of_place).inventory())
    captured(network, capture, blobs(8, 0)[0])
    network[1].inplace = True
    with pytest.raises(RuntimeError, match="over what layer '0' gave"):
        captured(network, capture, blobs(8, 0)[0])


def test_captured_values_of_half_precision_are_wide():
    build = lambda: nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 3)).bfloat16()  # noqa: E731
    network = build()
    inventory = task(build, dtype=torch.bfloat16).inventory()
    seen = captured(network, Capture(network, inventory), blobs(8, 0, dtype=torch.bfloat16)[0])
    assert {t.dtype for t in (seen.logits, seen.features, *seen.layer_features)} == {torch.float32}
