"""The networks of the benchmarks are those of the papers: as many parameters, the right shapes, one tuned step."""

import pytest
import real_networks
import torch
import torch.nn.functional as F
from networks import AWDLSTM, GPT, VGG, ResNet18, VisionTransformer

from selftune import Losses, OnlineTuner, Tune
from selftune.hypergradients.best_response import convert

PUBLISHED = {
    "ResNet-18": (ResNet18, 11_173_962),  # as counted for 32 x 32 images and ten classes
    "VGG-11": (lambda: VGG(depth=11), 9_231_114),
    "VGG-16": (lambda: VGG(depth=16), 14_728_266),
    "AWD-LSTM on Penn Treebank": (lambda: AWDLSTM(10_000), 24_221_600),  # "24M" in the paper
    "GPT-2 small": (lambda: GPT(50257, 1024, 768, 12, 12), 124_439_808),
}


@pytest.mark.parametrize("name", list(PUBLISHED))
def test_networks_have_as_many_parameters_as_published(name):
    build, expected = PUBLISHED[name]
    with torch.device("meta"):
        network = build()
    assert sum(parameter.numel() for parameter in network.parameters()) == expected


def test_a_decoder_looks_at_what_came_before_only():
    torch.manual_seed(0)
    network, numbers = GPT(11, length=8, width=16, depth=2, heads=2).eval(), torch.randint(11, (3, 8))
    outputs = network(numbers)
    changed = numbers.clone()
    changed[:, 5] = (changed[:, 5] + 1) % 11
    differs = (network(changed) != outputs).any(dim=2)
    assert not differs[:, :5].any()
    assert differs[:, 5:].all()


def images():
    return torch.randn(8, 3, 32, 32), torch.randint(10, (8,))


def text():
    numbers = torch.randint(11, (8, 9))
    return numbers[:, :-1], numbers[:, 1:]


def token_losses(outputs, batch):
    return Losses(F.cross_entropy(outputs.transpose(1, 2), batch[1], reduction="none"))


def image_losses(outputs, batch):
    return F.cross_entropy(outputs, batch[1], reduction="none")


SMALL = {
    "ResNet-18": (lambda: ResNet18(width=4), images, image_losses, ()),
    "VGG-11": (lambda: VGG(depth=11, width=4), images, image_losses, ()),
    "VGG-16": (lambda: VGG(width=4), images, image_losses, ()),
    "VisionTransformer": (
        lambda: VisionTransformer(width=16, depth=2, heads=2, patch=8, dropout=0.1),
        images,
        image_losses,
        ("class_token", "positions"),
    ),
    "GPT": (
        lambda: GPT(11, 8, width=16, depth=2, heads=2, dropout=0.1),
        text,
        token_losses,
        (),
    ),
    "AWD-LSTM": (lambda: AWDLSTM(11, embedding=8, hidden=12), text, token_losses, ()),
}


# What stays plain is a parameter of the network itself, which all images share.


@pytest.mark.parametrize("name", list(SMALL))
def test_networks_respond_and_are_tuned_as_they_are(name):
    torch.manual_seed(0)
    build, batch, losses, plain = SMALL[name]
    network = build()
    before = list(network.state_dict())
    tuner = OnlineTuner(
        network,
        torch.optim.SGD(network.parameters(), lr=0.05, momentum=0.9),
        {"weight_decay": {"strength": Tune(1e-3)}, "dropout": {"rate": Tune(0.1)}},
        forward=lambda network, batch: network(batch[0]),
        loss=losses,
        validation=([batch()], losses),
        warmup_steps=1,
        train_steps=1,
    )
    for _ in range(3):
        tuner.loss(batch()).backward()
        tuner.step()
    coverage = tuner.coverage
    assert coverage.responding == coverage.total - sum(dict(network.named_parameters())[n].numel() for n in plain)
    assert len(tuner.trajectory) == 2
    assert all(step.hypergradient.isfinite().all() for step in tuner.trajectory)
    assert all(step.hypergradient.abs().max() > 0 for step in tuner.trajectory[1:])
    assert list(network.state_dict()) == before


@pytest.mark.parametrize("name", list(real_networks.NETWORKS))
def test_nearly_all_of_a_network_in_its_usual_size_responds(name):
    problem = real_networks.NETWORKS[name](2)
    network = problem.build()
    response = convert(network, hyperparameters=2, example=problem.batch[0][0], generator=torch.Generator())
    sizes = {name: parameter.numel() for name, parameter in network.named_parameters()}
    assert sum(sizes[name] for name in response.responding) >= 0.97 * sum(sizes.values())


def test_the_rest_responds_where_it_is_asked_for():
    network = VisionTransformer(width=16, depth=1, heads=2, patch=8)
    response = convert(
        network,
        hyperparameters=2,
        example=images()[0],
        generator=torch.Generator(),
        without_rule="weight_space",
    )
    assert response.responding == set(dict(network.named_parameters()))
