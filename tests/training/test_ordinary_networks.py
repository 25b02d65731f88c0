"""Networks as people bring them, in training: what acts on layers acts on what the network is."""

import copy

import pytest
import torch
import torch.nn.functional as F
from orders import with_response
from ordinary_networks import ORDINARY, Frozen, Functional, HeadFirst, Recurrent, Tied, TiedHead, objective_of
from steps import begun
from torch import nn

from selftune.errors import SettingError
from selftune.hyperparameters import Tune
from selftune.methods import Response
from selftune.methods.work_orders import FollowSchedule
from selftune.regularization.composition import Regularizers
from selftune.regularization.regularizer import regularizers
from selftune.studies.tune import tune
from selftune.training import Trainer

STRENGTH = {"strength": 0.05}


def trained(build, settings, steps=6, **options):
    trainer = Trainer(
        objective_of(build), [regularizers[n](**s) for n, s in settings.items()], steps=20, **options
    )
    space = trainer.space
    trainer.execute(FollowSchedule(segments=((steps, space.constrain(space.start)),)))
    return trainer


def penalty(name, trainer):
    """The value of a penalty, without its strength, at the weights of a trainer."""
    lower = trainer.lower
    (regularizer,) = (r for r in lower.regularizers.members if r.name == name)
    step = lower.begin(0, lower.batches.at(0), lower.space.values(lower.space.start), "elementary", perturbed=True)
    step.parameters = lower.parameters
    return regularizer.penalty(step)


@pytest.mark.parametrize("name", ORDINARY)
@pytest.mark.parametrize("method", ["self_tuning", "implicit"])
def test_every_network_is_tuned_and_comes_out_as_it_was_trained(name, method):
    settings = {
        "weight_decay": {"strength": Tune(1e-2)},
        "label_smoothing": {"epsilon": Tune(0.1)},
        "dropout": {"rate": 0.2},
        "max_norm": {},
        "mean_teacher": {},
        "normalized_distillation": {},
    }
    result = tune(objective_of(ORDINARY[name]), settings, steps=20, warmup_steps=6, method=method)
    assert all(torch.isfinite(step.hypergradient).all() for step in result.trajectory)


@pytest.mark.parametrize("name", ORDINARY)
def test_what_comes_out_equals_what_was_trained(name):
    trainer = trained(
        ORDINARY[name], {"decoupled_weight_decay": {"strength": 1.0}, "mean_teacher": {"decay": 0.5}}
    )
    inputs = trainer.lower.objective.splits()["test"]["inputs"]
    assert torch.equal(trainer.plain_network()(inputs), trainer.lower.network.eval()(inputs))


# Order -----------------------------------------------------------------------------------------------


class BodyFirst(HeadFirst):
    def __init__(self):
        nn.Module.__init__(self)
        self.body, self.head = nn.Linear(8, 16), nn.Linear(16, 3)


def fixed(network):
    """The same values, in whatever order the layers stand."""
    for name, parameter in network.named_parameters():
        with torch.no_grad():
            generator = torch.Generator().manual_seed(sum(map(ord, name)))
            parameter.copy_(0.3 * torch.randn(parameter.shape, generator=generator))
    return network


@pytest.mark.parametrize("name", ["supervised_contrastive", "low_rank_adaptation", "dropout", "weight_decay"])
def test_the_order_of_registration_means_nothing(name):
    settings = {name: {}, "label_smoothing": {"epsilon": Tune(0.1)}}
    ends = [
        tune(objective_of(lambda kind=kind: fixed(kind())), settings, steps=20, warmup_steps=6)
        for kind in (HeadFirst, BodyFirst)
    ]
    first, second = (dict(end.network.named_parameters()) for end in ends)
    assert all(torch.equal(first[key], second[key]) for key in first)
    assert ends[0].hyperparameters == ends[1].hyperparameters


def test_the_last_layer_is_the_one_that_runs_last():
    trainer = trained(HeadFirst, {"low_rank_adaptation": {}, "triplet": {}})
    assert list(trainer.lower.regularizers.members[0].layers[""]) == ["body"]
    with trainer.lower.measuring(0) as step:
        assert step.features.shape[1] == 16
        assert torch.equal(step.layer_features[-1], step.logits)


# Weights ---------------------------------------------------------------------------------------------


def test_weight_decay_reaches_all_weights_of_recurrent_and_attention_layers():
    trainer = trained(Recurrent, {"weight_decay": {}})
    weights = [p for p in trainer.lower.network.parameters() if p.ndim > 1]
    assert sum(p.numel() for p in weights) == 562
    found = penalty("weight_decay", trainer)
    torch.testing.assert_close(found, 0.5 * sum(p.square().sum() for p in weights))


def test_a_map_reaches_them_too_each_once():
    trainer = trained(Tied, {"decoupled_weight_decay": {"strength": 1.0}}, steps=0)
    before = {name: p.detach().clone() for name, p in trainer.lower.network.named_parameters()}
    lower = trainer.lower
    step = lower.begin(0, lower.batches.at(0), lower.space.values(lower.space.start), "elementary")
    step.parameters = lower.parameters
    lower.regularizers.map_parameters(step, "before")
    for name, parameter in lower.network.named_parameters():
        kept = 1 - lower.learning_rate if name.endswith("weight") else 1.0
        torch.testing.assert_close(parameter, kept * before[name])


def test_a_part_may_name_a_recurrent_layer():
    objective = objective_of(Recurrent)
    decay = regularizers["weight_decay"](parts={"lstm": ["lstm"], "rest": ["head", "encoder.*"]})
    Regularizers([decay], objective)
    assert decay.weight_names("lstm") == ("lstm.weight_ih_l0", "lstm.weight_hh_l0")


# Ties ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["weight_decay", "l1", "nuclear_norm"])
def test_a_shared_tensor_is_penalized_once(name):
    single = trained(Tied, {name: {"parts": {"all": ["inp", "a", "out"]}}}, steps=0)
    both = trained(Tied, {name: {}}, steps=0)
    assert torch.equal(penalty(name, both), penalty(name, single)[0])


def test_one_strength_per_layer_is_one_per_tensor():
    decay = regularizers["weight_decay"](parts="layer")
    Regularizers([decay], objective_of(Tied))
    assert list(decay.layers) == ["inp", "a", "out"]


def test_two_parts_cannot_share_a_tensor():
    decay = regularizers["weight_decay"](parts={"x": ["a"], "y": ["b", "out"]})
    with pytest.raises(SettingError, match=r"weight_decay.parts.y: layer b shares a.weight with layer a"):
        Regularizers([decay], objective_of(Tied))


@pytest.mark.parametrize(
    "settings",
    [
        {"reference_consistency": {}},
        {"layer_distillation": {}},
        {"mean_teacher": {}, "normalized_distillation": {}},
    ],
)
def test_copies_of_tied_weights_hold_one_tensor(settings):
    trainer = trained(Tied, settings)
    for kept in trainer.lower.copies.values():
        assert "b.weight" not in kept
    again = Trainer(objective_of(Tied), [regularizers[n](**s) for n, s in settings.items()], steps=20)
    again.load_state_dict(copy.deepcopy(trainer.state_dict()))
    more = FollowSchedule(segments=((2, torch.empty(0)),))
    assert again.execute(more).metrics["training_loss"] == trainer.execute(more).metrics["training_loss"]


@pytest.mark.parametrize("build", [Tied, TiedHead])
def test_a_teacher_that_is_exported_is_the_teacher(build):
    trainer = trained(build, {"mean_teacher": {"decay": 0.5, "export_teacher": True}})
    inputs = trainer.lower.objective.splits()["test"]["inputs"]
    teacher = trainer.lower.regularizers.members[0]._teacher
    expected = trainer.lower.pass_copy(begun(trainer), teacher, inputs).logits
    torch.testing.assert_close(trainer.plain_network()(inputs), expected)
    assert not torch.allclose(expected, trainer.lower.network.eval()(inputs))


def test_fish_moves_a_shared_tensor_once():
    domains = {"domains": tuple(torch.arange(32) % 2 for _ in range(3))}
    moved = []
    for step in (0.0, 0.5, 1.0):
        trainer = Trainer(objective_of(Tied, extra=domains), [regularizers["fish"](step=step)])
        trainer.execute(FollowSchedule(segments=((1, torch.empty(0)),)))
        moved.append(trainer.lower.parameters["a.weight"].detach())
    torch.testing.assert_close(moved[1], (moved[0] + moved[2]) / 2)
    assert not torch.equal(moved[0], moved[2])


@pytest.mark.parametrize("name", ["low_rank_adaptation", "weight_compander", "ordered_low_rank", "dropconnect"])
def test_one_of_two_tied_layers_is_not_reparameterised(name):
    trainer = trained(Tied, {name: {}})
    assert not {"a", "b"} & set(trainer.lower.regularizers.members[0].layers[""])
    inputs = trainer.lower.objective.splits()["test"]["inputs"]
    torch.testing.assert_close(trainer.plain_network()(inputs), trainer.lower.network.eval()(inputs))
    with pytest.raises(
        SettingError, match=f"{name}.parts.x: {name} cannot act on layer a: it shares its weight with b"
    ):
        trained(Tied, {name: {"parts": {"x": ["a", "out"]}}})


def test_the_head_is_whole_whatever_the_names_of_its_tensors():
    class TwinFirst(nn.Module):
        def __init__(self):
            super().__init__()
            self.twin, self.body, self.head = nn.Linear(16, 3), nn.Linear(8, 16), nn.Linear(16, 3)
            self.head.weight, self.head.bias = self.twin.weight, self.twin.bias

        def forward(self, x):
            return self.head(F.relu(self.body(x)))

    trainer = trained(TwinFirst, {"triplet": {}})
    with trainer.lower.measuring(0) as step:
        weight, bias = trainer.lower.weight(step, "head"), trainer.lower.bias(step, "head")
        torch.testing.assert_close(F.linear(step.features, weight, bias), step.logits)
        assert bias.any()


# Frozen ----------------------------------------------------------------------------------------------


def test_a_strength_shared_with_a_frozen_layer_is_that_of_the_trained_one():
    ends = [
        tune(objective_of(Frozen), {"weight_decay": {"strength": Tune(0.1), **parts}}, steps=40, warmup_steps=10)
        for parts in ({"parts": {"head": ["2"]}}, {})
    ]
    assert list(ends[0].hyperparameters.values()) == list(ends[1].hyperparameters.values())


@pytest.mark.parametrize("settings", [{}, {"response": Response(centered=False, joint=True, linearize=False)}])
def test_what_is_frozen_has_no_hypergradient(settings):
    decay = {"weight_decay": {"strength": Tune(0.1), "parts": "layer"}}
    result = tune(objective_of(Frozen), decay, steps=40, warmup_steps=10, **settings)
    gradients = torch.stack([step.hypergradient for step in result.trajectory])
    assert (gradients[:, 0] == 0).all()
    assert (gradients[:, 1] != 0).all()


@pytest.mark.parametrize("name", ["decoupled_weight_decay", "max_norm", "magnitude_pruning", "l1"])
def test_what_is_frozen_stays(name):
    trainer = trained(Frozen, {name: {}})
    torch.manual_seed(0)
    start = Trainer(objective_of(Frozen), []).lower.network
    assert torch.equal(trainer.lower.network[0].weight, start[0].weight)
    assert not torch.equal(trainer.lower.network[2].weight, start[2].weight)


def test_a_bias_that_trains_alone_responds_alone():
    class Bias(nn.Sequential):
        def __init__(self):
            super().__init__(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 3))
            self[0].weight.requires_grad_(False)

    trainer = Trainer(objective_of(Bias), [regularizers["label_smoothing"](epsilon=Tune(0.1))])
    report = trainer.execute(with_response(trainer, {}, 20, scale=0.5, tune_scale=False))
    response = trainer.estimator.response
    assert response.responding == {"0.bias", "2.weight", "2.bias"}
    assert all((row != 0).any() for row in response.gates.split([3, 16, 3]))
    assert report.tensors["hypergradient"] != 0


@pytest.mark.parametrize(
    ("build", "settings", "message"),
    [
        (Frozen, {"weight_decay": {"parts": {"x": ["0"]}}}, r"weight_decay.parts.x: nothing is trained in 0"),
        (lambda: Frozen().requires_grad_(False), {"l1": {}}, "l1: l1 finds nothing to act on: none of the layers"),
    ],
)
def test_regularizers_of_what_is_frozen_are_refused(build, settings, message):
    with pytest.raises(SettingError, match=message):
        Regularizers([regularizers[n](**s) for n, s in settings.items()], objective_of(build))


# Hooks -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("build", "settings", "message"),
    [
        (
            Functional,
            {"dropout": {"parts": {"x": ["first"]}}},
            "layer first: its weight is used without its forward",
        ),
        (Recurrent, {"dropout": {"parts": {"x": ["encoder.self_attn.out_proj"]}}}, "used without its forward"),
        (Recurrent, {"dropout": {"parts": {"x": ["encoder.self_attn"]}}}, "its forward takes 3 tensors"),
        (Recurrent, {"dropout": {"parts": {"x": ["embedding"]}}}, "what it sees are no real numbers"),
        (lambda: nn.Linear(8, 3), {"dropout": {}}, "dropout finds no layer to act on"),
        (
            ORDINARY["orthogonal"],
            {"dropconnect": {"parts": {"x": ["0"]}}},
            "computed by torch.nn.utils.parametrize",
        ),
    ],
)
def test_what_would_never_act_is_refused_with_the_layer_and_the_reason(build, settings, message):
    with pytest.raises(SettingError, match=message):
        Regularizers([regularizers[n](**s) for n, s in settings.items()], objective_of(build))


def test_defaults_leave_such_layers_out():
    dropout, noise = regularizers["dropout"](), regularizers["quantization_noise"]()
    Regularizers([dropout, noise], objective_of(Recurrent))
    assert dropout.layers == {"": ("lstm", "encoder.linear1", "encoder.linear2", "head")}
    assert noise.layers == {"": ("encoder.linear1", "encoder.linear2")}


def test_tuning_leaves_the_global_random_numbers_alone():
    before = torch.get_rng_state()
    settings = {"weight_decay": {"strength": Tune(0.1)}, "low_rank_adaptation": {}}
    tune(objective_of(HeadFirst), settings, steps=20, warmup_steps=6)
    assert torch.equal(before, torch.get_rng_state())


class FunctionalHead(Functional):
    def forward(self, x):
        return F.linear(F.relu(self.first(x)), self.last.weight, self.last.bias)


class ConvolutionHead(HeadFirst):
    def __init__(self):
        super().__init__()
        self.head = nn.Conv1d(16, 3, 1)

    def forward(self, x):
        return self.head(F.relu(self.body(x))[..., None])[..., 0]


@pytest.mark.parametrize(
    ("build", "name", "message"),
    [
        (
            FunctionalHead,
            "triplet",
            "needs features, which are taken at the forward pass of the last layer.*last last",
        ),
        (ConvolutionHead, "fishr", "of a linear last layer, but the last layer, head, is of type Conv1d"),
    ],
)
def test_what_the_last_layer_cannot_give_is_refused(build, name, message):
    domains = {"domains": tuple(torch.arange(32) % 2 for _ in range(3))}
    with pytest.raises(SettingError, match=message):
        Regularizers([regularizers[name]()], objective_of(build, extra=domains))
