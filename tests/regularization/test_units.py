"""One value per unit of layers, and one per class of examples."""

import pytest
import torch
from torch import nn

from selftune.data.drawn import Drawn
from selftune.errors import SettingError
from selftune.hyperparameters import Space, Tune
from selftune.lower_level.classification import Classification
from selftune.lower_level.optimization import Optimization
from selftune.lower_level.regression import Regression
from selftune.regularization.composition import Regularizers
from selftune.regularization.regularizer import regularizers
from selftune.regularization.step import Mixing, Step

CLASSES = 3


pytestmark = pytest.mark.usefixtures("double")


def build():
    return nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(4, 2, 3),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(8, CLASSES),
    )


@pytest.fixture
def objective():
    data = torch.randn(24, 1, 4, 4), torch.arange(24) % CLASSES
    return Classification(build, data, data, data, Optimization(batch_size=6))


def bound(objective, name, **settings):
    return Regularizers([regularizers[name](**settings)], objective)


def step_of(objective, values, batch=6):
    labels = torch.arange(batch) % CLASSES
    return Step(
        number=0,
        inputs=torch.randn(batch, 1, 4, 4),
        labels=labels,
        targets=objective.targets(labels),
        drawn=Drawn(torch.arange(batch), {}),
        values=values,
        generator=torch.Generator().manual_seed(0),
        learning_rate=0.1,
        momentum=0.0,
        classes=CLASSES,
        examples=24,
    )


def test_names_are_those_of_layers_with_the_number_of_the_unit(objective):
    space = Space(bound(objective, "weight_decay", parts="unit", strength=Tune(1e-3)).hyperparameters)
    assert space.names[:5] == tuple(
        f"weight_decay.strength[{unit}]" for unit in ("0.0", "0.1", "0.2", "0.3", "2.0")
    )
    assert len(space) == 4 + 2 + CLASSES
    of_channels = Space(bound(objective, "dropout", parts="unit", rate=Tune(0.1)).hyperparameters)
    assert len(of_channels) == 4 + 8  # what the second convolution and the linear layer see
    assert of_channels.names[0] == "dropout.rate[2.0]"


def of_row(name, row, values):
    if name == "weight_decay":
        return values["strength"] * row.square().sum() / 2
    if name == "l1":
        return values["strength"] * row.abs().sum()
    ratio = values["ratio"]
    return values["strength"] * (ratio * row.abs().sum() + (1 - ratio) * row.square().sum() / 2)


@pytest.mark.parametrize("name", ["weight_decay", "l1", "elastic_net"])
def test_penalties_are_those_of_a_loop_over_units(objective, name):
    composed = bound(objective, name, parts="unit", strength=Tune(1e-3))
    numbers = {h.name: torch.rand(h.size).requires_grad_() for h in composed.hyperparameters if h.parts}
    step = step_of(objective, {h.name: h.value for h in composed.hyperparameters} | numbers)
    network = build()
    step.parameters = dict(network.named_parameters())
    expected, unit = 0.0, 0
    for layer in (network[0], network[2], network[5]):
        for row in layer.weight:
            own = {full.partition(".")[2]: tensor[unit] for full, tensor in numbers.items()}
            expected = expected + of_row(name, row, own)
            unit += 1
    penalty = composed.penalty(step)
    torch.testing.assert_close(penalty, expected)
    wanted = [*numbers.values(), network[0].weight]
    torch.testing.assert_close(torch.autograd.grad(penalty, wanted), torch.autograd.grad(expected, wanted))


def test_gradients_in_the_strengths_are_finite_differences(objective):
    composed = bound(objective, "weight_decay", parts="unit", strength=Tune(1e-3))
    network = build()

    def penalty(strengths):
        step = step_of(objective, {"weight_decay.strength": strengths})
        step.parameters = dict(network.named_parameters())
        return composed.penalty(step)

    assert torch.autograd.gradcheck(penalty, torch.rand(9).requires_grad_())
    assert torch.autograd.gradgradcheck(penalty, torch.rand(9).requires_grad_())


@pytest.mark.parametrize(
    ("name", "hyperparameter", "mapped"),
    [
        ("decoupled_weight_decay", "strength", lambda row, value: row * (1 - 0.1 * value)),
        ("max_norm", "limit", lambda row, value: row * min(1.0, float(value / row.norm()))),
    ],
)
def test_maps_go_row_by_row(objective, name, hyperparameter, mapped):
    composed = bound(objective, name, parts="unit", **{hyperparameter: Tune(0.5)})
    values = 0.1 + torch.rand(9)
    step = step_of(objective, {f"{name}.{hyperparameter}": values})
    network = build()
    before = [row.detach().clone() for layer in (0, 2, 5) for row in network[layer].weight]
    step.parameters = dict(network.named_parameters())
    for when in ("before", "after"):
        composed.map_parameters(step, when)
    after = [row for layer in (0, 2, 5) for row in network[layer].weight]
    for one, other, value in zip(before, after, values, strict=True):
        torch.testing.assert_close(other, mapped(one, value))


@pytest.mark.parametrize("perturbed", [False, True])
@pytest.mark.parametrize("name", ["dropout", "gaussian_dropout", "spatial_dropout"])
def test_noise_has_a_rate_per_channel(objective, name, perturbed):
    """With a rate of zero in all channels but one, that one alone is changed, by its own rate."""
    if name == "spatial_dropout":
        objective.provides = objective.provides | {"images"}
    composed = bound(objective, name, parts="unit", rate=Tune(0.5))
    (regularizer,) = composed.members
    labels = [label for units in regularizer.units.values() for label in units]
    rates = torch.zeros(6, len(labels)) if perturbed else torch.zeros(len(labels))
    rates[..., labels.index("2.1")] = 0.5
    network, seen = build(), {}
    composed.attach(network)
    inside, of = (network[2], "input") if regularizer.sees_inputs else (network[2], "output")
    if of == "input":
        inside.register_forward_pre_hook(lambda _, arguments: seen.update(after=arguments[0]))
        network[1].register_forward_hook(lambda *given: seen.update(before=given[2]))
    else:
        network[3].register_forward_pre_hook(lambda _, arguments: seen.update(after=arguments[0]))
    step = step_of(objective, {f"{name}.rate": rates})
    if of == "output":
        seen["before"] = network[2](network[1](network[0](step.inputs)))
    composed.act(step)
    network(step.inputs)
    composed.end()
    same = (seen["before"] == seen["after"]).flatten(2).all(-1).all(0)
    assert same.tolist() == [channel != 1 for channel in range(seen["before"].shape[1])]


def test_a_setting_may_name_layers_for_all_their_units(objective):
    composed = bound(objective, "weight_decay", parts="unit", strength=Tune({"0": 0.1, "2": 0.2, "5": 0.3}))
    assert composed.hyperparameters[0].value == (0.1,) * 4 + (0.2,) * 2 + (0.3,) * 3


@pytest.mark.parametrize("mixed", [False, True])
@pytest.mark.parametrize("perturbed", [False, True])
def test_examples_take_the_value_of_their_class(objective, perturbed, mixed):
    composed = bound(objective, "label_smoothing", parts="class", epsilon=Tune(0.1))
    assert composed.hyperparameters[0].names == tuple(f"label_smoothing.epsilon[{k}]" for k in range(CLASSES))
    epsilon = torch.rand(6, CLASSES) if perturbed else torch.rand(CLASSES)
    step = step_of(objective, {"label_smoothing.epsilon": epsilon})
    own = torch.stack([(epsilon[row] if perturbed else epsilon)[label] for row, label in enumerate(step.labels)])
    if mixed:
        partners = torch.tensor([1, 2, 3, 4, 5, 0])
        step.mixings = (Mixing(step.inputs, step.targets, partners, torch.tensor(0.75)),)
        own = 0.75 * own + 0.25 * own[partners]
    expected = (1 - own[:, None]) * step.targets + own[:, None] / CLASSES
    composed.targets(step)
    torch.testing.assert_close(step.targets, expected)


def test_augmentations_have_a_strength_per_class(objective):
    composed = bound(objective, "gaussian_input_noise", parts="class", sigma=Tune(0.1))
    step = step_of(objective, {h.name: h.value for h in composed.hyperparameters})
    step.values["gaussian_input_noise.sigma"] = torch.tensor([0.0, 0.0, 2.0])
    step.values["gaussian_input_noise.power"] = torch.zeros(CLASSES)
    before = step.inputs.clone()
    composed.begin(step)
    same = (step.inputs == before).flatten(1).all(1)
    assert torch.equal(same, step.labels != 2)


def test_what_cannot_be_is_refused(objective):
    with pytest.raises(SettingError, match=r"parts: nuclear_norm does not act unit by unit"):
        regularizers["nuclear_norm"](parts="unit")
    with pytest.raises(SettingError, match=r"parts: weight_decay does not act on examples one by one"):
        regularizers["weight_decay"](parts="class")
    data = torch.randn(24, 4), torch.randn(24, 1)
    numbers = Regression(lambda: nn.Linear(4, 1), data, data, data, Optimization(batch_size=6))
    with pytest.raises(SettingError, match=r"parts: cannot be classes: examples of Regression"):
        bound(numbers, "gaussian_input_noise", parts="class", sigma=Tune(0.1))
