import pytest
import torch
import torch.nn.functional as F
from torch import nn

from selftune.data.drawn import Drawn
from selftune.errors import SettingError
from selftune.hyperparameters import Space, Tune
from selftune.lower_level.classification import Classification
from selftune.lower_level.optimization import Optimization
from selftune.regularization.composition import Regularizers
from selftune.regularization.regularizer import regularizers
from selftune.regularization.step import Step, per_example
from selftune.regularization.step_quantities import quantities


def build():
    return nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 3))


@pytest.fixture
def objective():
    data = torch.randn(32, 4), torch.arange(32) % 3
    return Classification(build, data, data, data, Optimization(batch_size=8))


def make(name, **settings):
    return regularizers[name](**settings)


def step_of(objective, space, batch=6, perturbed=False, seed=0):
    unconstrained = space.start
    if perturbed:
        unconstrained = unconstrained + torch.linspace(-1, 1, batch)[:, None]
    labels = torch.arange(batch) % 3
    return Step(
        number=0,
        inputs=torch.ones(batch, 4),
        labels=labels,
        targets=objective.targets(labels),
        drawn=Drawn(torch.arange(batch), {}),
        values=space.values(unconstrained),
        generator=torch.Generator().manual_seed(seed),
        learning_rate=0.1,
        momentum=0.0,
        classes=3,
        examples=32,
        perturbed=perturbed,
    )


def test_parts_by_layer_by_pattern_and_in_all(objective):
    each = Regularizers([make("weight_decay", parts="layer", strength=Tune(1e-3))], objective)
    assert Space(each.hyperparameters).names == tuple(f"weight_decay.strength[{k}]" for k in "024")
    grouped = Regularizers(
        [make("weight_decay", parts={"body": ["0", "2"], "head": ["4"]}, strength={"body": 0.1, "head": 0.2})],
        objective,
    )
    assert grouped.hyperparameters[0].value == (0.1, 0.2)
    assert Regularizers([make("weight_decay")], objective).hyperparameters[0].value == 5e-4


def test_weight_decay_per_part_weighs_each_part(objective):
    torch.manual_seed(0)
    network = build()
    composed = Regularizers(
        [make("weight_decay", parts={"a": ["0"], "b": ["2", "4"]}, strength={"a": 0.1, "b": 0.01})], objective
    )
    step = step_of(objective, Space(composed.hyperparameters))
    step.parameters = dict(network.named_parameters())
    squares = {k: 0.5 * network[k].weight.square().sum() for k in (0, 2, 4)}
    expected = 0.1 * squares[0] + 0.01 * (squares[2] + squares[4])
    torch.testing.assert_close(composed.penalty(step), expected)


@pytest.mark.parametrize("perturbed", [False, True])
def test_mixing_acts_before_noise_and_smoothing_last_whatever_the_order(objective, perturbed):
    names = ["label_smoothing", "gaussian_input_noise", "mixup"]
    results = []
    for order in (names, names[::-1]):
        composed = Regularizers(
            [make(n, **{"label_smoothing": {"epsilon": Tune(0.1)}}.get(n, {})) for n in order], objective
        )
        assert [r.name for r in composed.members] == ["mixup", "gaussian_input_noise", "label_smoothing"]
        step = step_of(objective, Space(composed.hyperparameters), perturbed=perturbed)
        composed.begin(step)
        composed.end()
        composed.targets(step)
        results.append((step.inputs, step.targets))
    assert torch.equal(results[0][0], results[1][0])
    assert torch.equal(results[0][1], results[1][1])
    torch.testing.assert_close(results[0][1].sum(dim=1), torch.ones(6))


def test_dropout_acts_on_the_named_layers_only_while_training(objective):
    network = build()
    composed = Regularizers([make("dropout", parts={"head": ["4"]}, rate={"head": 0.5})], objective)
    composed.attach(network)
    inputs = torch.ones(6, 4)
    seen = []
    network[4].register_forward_pre_hook(lambda _, arguments: seen.append(arguments[0]))
    plain = network(inputs)
    composed.act(step_of(objective, Space(composed.hyperparameters)))
    network(inputs)
    composed.end()
    assert torch.equal(network(inputs), plain)
    before, during, after = seen
    assert torch.equal(before, after)
    kept = during != 0
    torch.testing.assert_close(during[kept], 2 * before[kept])
    assert (before[~kept] >= 0).all()
    assert (before[~kept] > 0).any()


def test_dropout_rates_per_example(objective):
    network = build()
    composed = Regularizers([make("dropout", rate=Tune(0.5))], objective)
    composed.attach(network)
    step = step_of(objective, Space(composed.hyperparameters), perturbed=True)
    rates = step.values["dropout.rate"]
    seen = []
    network[2].register_forward_pre_hook(lambda _, arguments: seen.append(arguments[0]))
    plain = F.relu(network[0](step.inputs))
    composed.act(step)
    network(step.inputs)
    composed.end()
    kept = seen[0] != 0
    scale = (1 / (1 - rates))[:, None].expand_as(plain)
    torch.testing.assert_close(seen[0][kept], (plain * scale)[kept])


@pytest.mark.parametrize(
    ("name", "settings"), [("max_norm", {"limit": 0.5}), ("decoupled_weight_decay", {"strength": 0.3})]
)
def test_the_surrogate_of_a_parameter_map_pulls_like_the_map(objective, name, settings):
    torch.manual_seed(0)
    network = build()
    composed = Regularizers([make(name, **settings)], objective)
    step = step_of(objective, Space(composed.hyperparameters))
    step.parameters = dict(network.named_parameters())
    surrogate = composed.map_surrogate(step)
    weights = [network[k].weight for k in (0, 2, 4)]
    gradients = torch.autograd.grad(surrogate, weights)
    stepped = [w.detach() - step.learning_rate * g for w, g in zip(weights, gradients, strict=True)]
    composed.map_parameters(step, regularizers[name].when)
    for mapped, expected in zip(weights, stepped, strict=True):
        torch.testing.assert_close(mapped.detach(), expected)


def test_early_learning_updates_its_table_in_elementary_steps_only(objective):
    composed = Regularizers([make("early_learning", beta=0.5)], objective)
    space = Space(composed.hyperparameters)
    step = step_of(objective, space)
    step.logits = torch.randn(6, 3, generator=step.generator)
    composed.penalty(step)
    table = composed.state_dict()["early_learning"]["table"].clone()
    torch.testing.assert_close(table[:6].sum(dim=1), torch.full((6,), 0.5))
    assert (table[6:] == 0).all()
    step.perturbed = True
    composed.penalty(step)
    assert torch.equal(composed.state_dict()["early_learning"]["table"], table)


def test_fixed_noise_repeats_for_the_same_examples(objective):
    composed = Regularizers([make("gaussian_input_noise", mode="fixed", sigma=0.3)], objective)
    space = Space(composed.hyperparameters)
    noisy = []
    for seed in (0, 1):
        step = step_of(objective, space, seed=seed)
        composed.begin(step)
        noisy.append(step.inputs)
    assert torch.equal(*noisy)
    assert (noisy[0] != 1).any()


def test_mixup_probability_zero_is_the_identity(objective):
    composed = Regularizers([make("mixup", probability=0.0, alpha=1.0)], objective)
    step = step_of(objective, Space(composed.hyperparameters))
    step.inputs = torch.randn(6, 4)
    before = step.inputs.clone()
    composed.begin(step)
    assert torch.equal(step.inputs, before)


@pytest.mark.parametrize("alpha", [0.0, 0.01, 0.2, 1.0, 8.0])
@pytest.mark.parametrize("per_sample", [False, True])
def test_mixup_draws_from_the_symmetric_beta_distribution(objective, monkeypatch, alpha, per_sample):
    drawn = []

    def recorded(inputs, targets, permutation, lam):
        drawn.append(lam)
        return inputs, targets

    monkeypatch.setattr("selftune.objectives.regularizers.supervision.mixup.mixup", recorded)
    composed = Regularizers([make("mixup", alpha=alpha, per_sample=per_sample)], objective)
    space = Space(composed.hyperparameters)
    for seed in range(40 if per_sample else 4000):
        composed.begin(step_of(objective, space, batch=100, seed=seed))
    assert all(lam.shape == ((100,) if per_sample else ()) for lam in drawn)
    lam = torch.stack(drawn).flatten().double()
    assert 0.5 <= lam.min() <= lam.max() <= 1  # the larger one of two shares that are distributed alike
    assert (lam - 0.5).square().mean().item() == pytest.approx(1 / (4 * (2 * alpha + 1)), rel=0.05)


def test_the_table_of_early_learning_follows_to_the_device_of_the_predictions(objective):
    """A checkpoint is read on the CPU, wherever training goes on."""
    composed = Regularizers([make("early_learning", beta=0.5)], objective)
    composed.load_state_dict({"early_learning": {"table": torch.zeros(32, 3)}})
    step = step_of(objective, Space(composed.hyperparameters))
    step.drawn = Drawn(step.index.to("meta"), {})
    step.logits = torch.empty(6, 3, device="meta")
    composed.penalty(step)
    assert composed.state_dict()["early_learning"]["table"].device.type == "meta"


@pytest.mark.parametrize(
    ("chosen", "key", "fragment"),
    [
        ([("dropout", {"rate": 2.0})], "dropout.rate", "must be a number in"),
        ([("dropout", {"parts": {"x": ["7"]}})], "dropout.parts.x", "no layer matches"),
        ([("mixup", {}), ("mixup", {})], "mixup", "listed twice"),
    ],
)
def test_regularizers_that_do_not_fit_are_refused(objective, chosen, key, fragment):
    with pytest.raises(SettingError, match=fragment) as error:
        Regularizers([make(name, **settings) for name, settings in chosen], objective)
    assert error.value.key == key


@pytest.mark.parametrize(
    ("parts", "key", "fragment"),
    [
        ("units", "parts", "must be 'layer' or a mapping"),
        (["0"], "parts", "must be 'layer' or a mapping"),
        ({"a": "0"}, "parts.a", "must be a list of layer patterns"),  # not its letters
        ({"a": [0]}, "parts.a", "must be a list of layer patterns"),
    ],
)
def test_parts_in_wrong_containers_are_refused(parts, key, fragment):
    with pytest.raises(SettingError, match=fragment) as error:
        make("weight_decay", parts=parts)
    assert error.value.key == key


def test_unknown_hyperparameters_and_parts_where_there_are_none():
    with pytest.raises(SettingError, match="did you mean rate"):
        make("dropout", rat=0.1)
    with pytest.raises(SettingError, match="does not act per layer"):
        make("mixup", parts="layer")


def test_needs_that_are_not_provided_name_both_sides(objective):
    class Blind(type(objective)):
        provides = frozenset({"inputs"})

    blind = Blind(build, *([(torch.randn(32, 4), torch.arange(32) % 3)] * 3), Optimization(batch_size=8))
    with pytest.raises(SettingError, match=r"early_learning needs .*probs.* which Blind does not provide"):
        Regularizers([make("early_learning")], blind)


def test_everything_needed_is_in_the_vocabulary():
    for name in regularizers.names():
        assert regularizers[name].needs <= set(quantities.names())


def test_per_example_leaves_scalars_alone():
    assert per_example(0.5, torch.ones(2, 3)) == 0.5
    assert per_example(torch.tensor(0.5), torch.ones(2, 3)).shape == ()
    assert per_example(torch.ones(2), torch.ones(2, 3)).shape == (2, 1)
