"""Several regularizers at once: random subsets train, are tuned, saved and exported; clashes are refused."""

import functools
import random

import pytest
import torch
import torch.nn.functional as F
from conformance_objectives import OBJECTIVES, partners_of
from full_matrix import first_of
from steps import begun
from trainers import cycle, fixed, replay, tuned, weights

from selftune.errors import SettingError
from selftune.methods import Response
from selftune.methods.work_orders import FollowSchedule
from selftune.regularization.regularizer import regularizers
from selftune.regularization.step_quantities import closure
from selftune.storage.state_file import load_state, save_state
from selftune.training import Trainer
from selftune.training.estimators.response import ResponseEstimator


def with_partners(names):
    """The names and those of who provides for them, where nobody of them does."""
    everyone = list(names)
    for name in names:
        provided = frozenset().union(*(regularizers[other].provides for other in everyone))
        everyone += [p for p in partners_of(name) if p not in everyone and not regularizers[p].provides & provided]
    return everyone


def members_of(names, only_fixed=False):
    make = fixed if only_fixed else tuned
    return [(make if name in names else fixed)(name)[0] for name in with_partners(names)]


def trainer_of(objective, names, only_fixed=False):
    return Trainer(OBJECTIVES[objective](), members_of(names, only_fixed), steps=40)


def names_for(objective):
    """Names of the regularizers that an objective provides for, with the help of others."""
    provides = OBJECTIVES[objective]().offers() | {"progress"}
    fitting = []
    for name in regularizers.names():
        members = [regularizers[member] for member in with_partners([name])]
        known = closure(provides.union(*(member.provides for member in members)))
        if all(member.needs <= known for member in members):
            fitting.append(name)
    return fitting


def compatible(objective, names):
    try:
        trainer = trainer_of(objective, names)
        if len(trainer.space):
            ResponseEstimator(trainer.lower, vars(Response()))  # refused where every layer is reparameterised
    except SettingError:
        return False
    return True


@functools.cache
def subset(objective, number):
    """A seeded random subset of 4 to 6 regularizers that go together: a candidate that does not is left out."""
    chance = random.Random(f"composition {number} of {objective}")
    candidates = names_for(objective)
    size, chosen = chance.randint(4, 6), []
    for name in chance.sample(candidates, len(candidates)):
        if compatible(objective, [*chosen, name]):
            chosen.append(name)
        if len(chosen) == size:
            break
    return chosen


def go_on(trainer):
    return trainer.execute(cycle(trainer, steps=2)) if len(trainer.space) else replay(trainer, 2)


@pytest.mark.parametrize("number", first_of(range(4)))
@pytest.mark.parametrize("objective", OBJECTIVES)
def test_random_subsets_train_are_tuned_saved_and_exported(objective, number, tmp_path):
    names = subset(objective, number)
    trainer = trainer_of(objective, names)
    report = replay(trainer, 3)
    assert report.kind == "replay", (names, report.message)
    report = go_on(trainer)
    assert report.kind in ("cycle", "replay"), (names, report.message)
    assert all(torch.isfinite(tensor).all() for tensor in report.tensors.values()), names
    assert torch.isfinite(weights(trainer)).all(), names
    second = trainer_of(objective, names)
    save_state(tmp_path / "state", trainer.state_dict(), "state")
    second.load_state_dict(load_state(tmp_path / "state", "state"))
    reports = [go_on(each) for each in (trainer, second)]
    for key, tensor in reports[0].tensors.items():
        assert torch.equal(tensor, reports[1].tensors[key]), (names, key)
    assert torch.equal(weights(trainer), weights(second)), names
    inputs, network = trainer.lower.objective.splits()["test"]["inputs"], trainer.lower.network.eval()
    torch.testing.assert_close(trainer.plain_network()(inputs), network(inputs), msg=str(names))


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_the_order_in_the_study_has_no_influence(objective):
    names = subset(objective, 0)
    results = []
    for turned in (members_of(names), members_of(names)[::-1]):
        trainer = Trainer(OBJECTIVES[objective](), turned, steps=40)
        replay(trainer, 4)
        results.append(weights(trainer))
    assert torch.equal(*results), names


CLASHES = [
    ("classification", "krum", "bulyan", "each of them makes the one gradient"),
    ("domain_classification", "fish", "krum", "it replaces the training step"),
    ("domain_classification", "fish", "sam", "one domain at a time"),
    ("domain_classification", "fish", "fishr", "one domain at a time"),
    ("domain_classification", "fishr", "mixup", "it reads the domains of examples"),
    ("classification", "sam", "trimmed_mean", "that of the whole batch"),
    ("classification", "co_teaching", "geometric_median", "selects examples of the whole batch"),
    ("classification", "experience_replay", "coordinate_median", "takes in the whole batch"),
    ("classification", "triplet", "mixup", "it reads the labels of examples"),
    ("image_classification", "supervised_contrastive", "cutmix", "it reads the labels of examples"),
    ("classification", "intrusion_loss", "mixup", "would count as real ones"),
    ("classification", "mean_teacher", "temporal_ensembling", "both provide teacher_logits"),
    ("classification", "low_rank_adaptation", "weight_compander", "would be reparameterised twice"),
    ("classification", "erdos_renyi_sparsity", "low_rank_adaptation", "replaces the weights"),
]


@pytest.mark.parametrize(("objective", "first", "second", "reason"), CLASHES)
def test_clashes_are_refused_in_either_order_and_say_why(objective, first, second, reason):
    for names in ([first, second], [second, first]):
        with pytest.raises(SettingError, match=reason) as refusal:
            trainer_of(objective, names)
        message = f"{refusal.value.key} {refusal.value.message}"
        assert first in message
        assert second in message


@pytest.mark.parametrize(
    ("settings", "layers"),
    [
        ({}, ("4",)),
        ({"parts": {"head": ["4"]}}, ("4",)),
        ({"parts": "layer"}, None),
        ({"parts": {"x": ["0"]}}, None),
    ],
)
def test_penalties_of_weights_leave_out_those_that_do_not_train(settings, layers):
    members = [regularizers["low_rank_adaptation"](), regularizers["weight_decay"](**settings)]
    if layers is None:
        with pytest.raises(SettingError, match="with low_rank_adaptation on layer 0: that keeps the weight"):
            Trainer(OBJECTIVES["classification"](), members)
        return
    trainer = Trainer(OBJECTIVES["classification"](), members)
    assert [layer for found in member(trainer, "weight_decay").layers.values() for layer in found] == list(layers)


def member(trainer, name):
    return next(r for r in trainer.lower.regularizers.members if r.name == name)


def trained(objective, steps, **chosen):
    trainer = Trainer(OBJECTIVES[objective](), [regularizers[n](**s) for n, s in chosen.items()], steps=40)
    report = trainer.execute(FollowSchedule(segments=((steps, torch.empty(0)),)))
    assert report.kind == "replay", report.message
    return trainer


@pytest.mark.parametrize("name", ["dropconnect", "low_rank_adaptation", "ordered_low_rank", "weight_compander"])
def test_the_exported_average_of_weights_is_that_of_the_reparameterised_network(name):
    trainer = trained("classification", 4, **{name: {}, "mean_teacher": {"decay": 0.5, "export_teacher": True}})
    inputs = trainer.lower.objective.splits()["test"]["inputs"]
    lower = trainer.lower
    teacher = member(trainer, "mean_teacher").state_dict()["teacher"]
    torch.testing.assert_close(
        trainer.plain_network()(inputs), lower.pass_copy(begun(trainer), teacher, inputs).logits
    )
    assert not torch.allclose(trainer.plain_network()(inputs), lower.network.eval()(inputs))


def test_the_memory_holds_the_noisy_labels_and_the_domains_of_its_examples():
    trainer = trained("domain_classification", 3, experience_replay={"capacity": 24}, label_noise={"rate": 0.8})
    memory, data = member(trainer, "experience_replay")._memory, trainer.lower.objective.splits()["train"]
    index = (memory["inputs"][:, None] == data["inputs"]).all(dim=-1).int().argmax(dim=1)
    assert torch.equal(memory["domains"], data["domains"][index])
    assert (memory["labels"] != data["labels"][index]).float().mean() > 0.4
    assert torch.equal(memory["targets"].argmax(dim=1), memory["labels"])
    step = begun(trainer, 3)
    assert len(step.domains) == len(step.labels) == len(step.targets) == len(step.inputs) == 32


def test_losses_are_weighted_after_they_are_replaced():
    trainer = trained("classification", 2, co_teaching={"forget_rate": 0.5, "ramp": 0}, stablemax_cross_entropy={})
    step = begun(trainer, 2)
    step.logits, step.values = torch.randn(16, 3), trainer.space.values(trainer.space.start)
    step.parameters = trainer.lower.parameters
    losses = trainer.lower.regularizers.losses(step, F.cross_entropy(step.logits, step.targets, reduction="none"))
    assert (losses == 0).sum() == 8


def test_parts_of_a_batch_draw_numbers_of_their_own():
    trainer = trained("classification", 0, mean_aggregation={"workers": 2}, gaussian_input_noise={})
    lower, seen = trainer.lower, []
    act = lower.regularizers.act
    lower.regularizers.act = lambda step: (seen.append(step), act(step))
    lower.train(0, trainer.space.unpack(torch.empty(0)))
    noises = [step.inputs - lower.objective.splits()["train"]["inputs"][step.index] for step in seen]
    assert [len(noise) for noise in noises] == [8, 8]
    assert not torch.allclose(*noises)


@pytest.mark.parametrize("name", ["trimmed_mean", "multi_krum"])
def test_more_workers_than_examples_are_refused(name):
    with pytest.raises(SettingError, match="is 32, but a batch has 16 examples"):
        trained("classification", 0, **{name: {"workers": 32}})


def test_multi_krum_refuses_too_few_workers_before_training():
    with pytest.raises(SettingError, match="at least 5 workers"):
        trained("classification", 0, multi_krum={"workers": 4})


def test_gradients_of_the_head_are_those_of_a_reparameterised_one():
    trainer = trained("domain_classification", 2, fishr={}, weight_compander={"parts": {"all": ["*"]}})
    step = begun(trainer, 2)
    trainer.lower.loss(step, trainer.lower.network, trainer.lower.parameters)
    weight, bias = step.head
    torch.testing.assert_close(F.linear(step.features, weight, bias), step.logits)
