"""Data that people bring: taken as it is meant, or refused in one sentence that names the argument."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from selftune import Classification, Optimization, SelfSupervised, SettingError, Stage, Tune, tune
from selftune.data import classes_of, positions_of
from selftune.regularization.composition import Regularizers
from selftune.regularization.regularizer import regularizers
from selftune.training import Trainer

SMOOTHING = {"label_smoothing": {"epsilon": Tune(0.1)}}


def data(examples=32, features=8, classes=3):
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(3 * examples, features, generator=generator)
    y = (x @ torch.randn(features, classes, generator=generator)).argmax(1)
    return [(x[i : i + examples], y[i : i + examples]) for i in range(0, 3 * examples, examples)]


def network(outputs=3):
    return nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, outputs))


def classifier(splits=None, build=network, batch_size=16, **more):
    return Classification(build, *(splits or data()), Optimization(batch_size=batch_size), **more)


def tuned(objective):
    return tune(objective, SMOOTHING, steps=20, warmup_steps=10, seed=1)


# Labels ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "change",
    [
        lambda y: y.int(),
        lambda y: y.to(torch.uint8),
        lambda y: y.float(),
        lambda y: y[:, None],
        lambda y: F.one_hot(y, 3),
        lambda y: F.one_hot(y, 3).double(),
        lambda y: y.numpy(),
        lambda y: y.numpy().astype(np.uint8),
    ],
    ids=["int32", "uint8", "float", "(n, 1)", "one-hot", "real one-hot", "array", "array of bytes"],
)
def test_labels_that_mean_the_same_train_the_same_network(change):
    plain = tuned(classifier())
    other = tuned(classifier([(x, change(y)) for x, y in data()]))
    assert other.metrics == plain.metrics
    assert other.hyperparameters == plain.hyperparameters


def test_truth_values_are_two_classes():
    splits = [(x, y > 0) for x, y in data()]
    assert classifier(splits, lambda: network(2)).splits()["train"]["labels"].unique().tolist() == [0, 1]


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda y: y - 1, "labels: of the train split hold -1; .* ignored=-1 leaves such examples out"),
        (lambda y: y + 0.5, "labels: of the train split hold .*5, which is no class number"),
        (lambda y: torch.full((len(y), 3), 1 / 3), r"labels: of the train split have shape \(32, 3\)"),
        (lambda y: y[:, None].repeat(1, 2), r"labels: of the train split have shape \(32, 2\)"),
        (lambda y: y + 1, "labels: of the train split go up to 3, but the network has outputs for 3 classes"),
        (lambda y: torch.full_like(y, -100), "labels: of the train split are all -100, so that all are left out"),
    ],
)
def test_labels_that_name_no_classes_are_refused(change, sentence):
    with pytest.raises(SettingError, match=sentence):
        classifier([(x, change(y)) for x, y in data()])


@pytest.mark.parametrize("ignored", [-100, -1, 1])
def test_examples_with_the_ignored_label_count_nowhere(ignored):
    """The loss and its gradient are torch's with ignore_index; tables, metrics and stages know the others only."""
    splits = [(x, torch.where(torch.arange(len(y)) % 4 == 0, ignored, y.clamp(min=2))) for x, y in data()]
    positions = tuple(torch.arange(32).repeat(3).split(32))
    objective = classifier(splits, ignored=ignored, batch_size=24, extra={"number": positions})
    train = objective.splits()["train"]
    assert train["number"].tolist() == [i for i in range(32) if i % 4]
    x, y = splits[0]
    logits = network()(x)
    wanted = F.cross_entropy(logits, y, ignore_index=ignored)
    kept = logits[train["number"]]
    torch.testing.assert_close(objective.loss(kept, objective.targets(train["labels"])).mean(), wanted)
    torch.testing.assert_close(objective.validation_loss(kept, train["labels"]).mean(), wanted)
    readers = [
        "label_smoothing",
        "supervised_contrastive",
        "early_learning",
        "label_noise",
    ]
    every = [regularizers["weight_decay"](strength=Tune()), *(regularizers[name]() for name in readers)]
    assert tune(objective, every, steps=12, warmup_steps=4).metrics["test_accuracy"] <= 1


def test_stages_name_the_examples_that_are_left():
    splits = [(x, torch.where(torch.arange(len(y)) == 1, -100, y)) for x, y in data()]
    stages = [Stage(torch.arange(0, 16), 10), Stage(torch.arange(16, 32), 10)]
    first, second = classifier(splits, batch_size=8, stages=stages).stages()
    assert first.index.tolist() == list(range(15))
    assert second.index.tolist() == list(range(15, 31))


def test_positions_of_what_is_kept():
    kept = torch.tensor([True, False, True])
    assert positions_of(torch.tensor([2, 1, 0]), kept).tolist() == [1, 0]


def test_one_hot_counts_only_if_all_splits_are():
    mixed = {"train": torch.eye(3), "validation": torch.tensor([0, 1])}
    with pytest.raises(SettingError, match="of the train split have shape"):
        classes_of(mixed, None)


# Classes ---------------------------------------------------------------------------------------------


def test_a_head_wider_than_the_labels_decides_the_number_of_classes():
    objective = classifier(build=lambda: network(5))
    assert objective.classes == 5
    assert objective.targets(torch.tensor([2])).tolist() == [[0, 0, 1, 0, 0]]
    assert tuned(objective).network(torch.zeros(1, 8)).shape == (1, 5)
    assert classifier(build=lambda: network(5), classes=5).classes == 5
    with pytest.raises(SettingError, match="classes: is 3, but the network has outputs for 5 classes"):
        classifier(build=lambda: network(5), classes=3)


@pytest.mark.parametrize(
    ("build", "shown"),
    [
        (lambda: nn.Sequential(nn.Linear(8, 3), nn.Unflatten(1, (3, 1))), r"a Tensor of shape \(4, 3, 1\)"),
        (lambda: nn.Sequential(nn.Linear(8, 1), nn.Flatten(0)), r"a Tensor of shape \(4,\)"),
        (lambda: nn.LSTM(8, 3), r"\(tensor"),
    ],
)
def test_outputs_of_another_shape_are_refused(build, shown):
    with pytest.raises(SettingError, match=rf"build: .*\(batch, classes\), but of 4 examples it makes {shown}"):
        classifier(build=build)


# Inputs ----------------------------------------------------------------------------------------------


def test_arrays_become_tensors_of_the_network_s_precision():
    splits = [(x.double().numpy(), y.numpy()) for x, y in data()]
    assert classifier(splits).splits()["train"]["inputs"].dtype == torch.float32
    assert classifier(splits, lambda: network().double()).splits()["train"]["inputs"].dtype == torch.float64


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("split", [0, 1, 2])
def test_numbers_that_are_none_are_refused(split, value):
    splits = data()
    splits[split][0][5, 2] = value
    name = ("train", "validation", "test")[split]
    with pytest.raises(SettingError, match=f"inputs: 1 examples of the {name} split .* is number 5"):
        classifier(splits)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        (
            {"train": torch.zeros(2, 8)},
            r"train: must be a pair \(inputs, labels\), a Dataset or a DataLoader, got a Tensor",
        ),
        ({"train": (torch.zeros(32, 8),)}, "train: must be a pair"),
        ({"test": ([[0.0] * 8], [1])}, "test: must be tensors or arrays of numbers"),
        ({"validation": (torch.zeros(31, 8), torch.zeros(32))}, "validation: .* different lengths"),
        ({"extra": {"domains": torch.zeros(32)}}, "extra.domains: must be three tensors"),
        ({"extra": [torch.zeros(32)] * 3}, "extra: must be a mapping"),
        ({"optimization": {"batch_size": 16}}, r"optimization: must be an Optimization\(...\)"),
        ({"build": network()}, "build: must be a function that returns a fresh network"),
        ({"validation_batch_size": 1.5}, "validation_batch_size: must be a whole number"),
    ],
)
def test_wrong_containers_are_refused(changes, sentence):
    arguments = dict(zip(("train", "validation", "test"), data(), strict=True)) | {"build": network} | changes
    with pytest.raises(SettingError, match=sentence):
        Classification(**{"optimization": Optimization(batch_size=16), **arguments})


def test_a_batch_of_one_where_the_network_needs_more():
    normalised = lambda: nn.Sequential(nn.Linear(8, 16), nn.BatchNorm1d(16), nn.Linear(16, 3))  # noqa: E731
    with pytest.raises(SettingError, match="batch_size: is 1, but the network does not train on single examples"):
        classifier(build=normalised, batch_size=1)
    assert tuned(classifier(batch_size=1)).metrics


def test_self_supervised_objectives_look_at_their_data_too():
    splits = data()
    splits[0][0][3, 0] = float("nan")
    optimization = Optimization(batch_size=16)
    view = lambda x, generator: x  # noqa: E731
    with pytest.raises(SettingError, match="inputs: 1 examples of the train split"):
        SelfSupervised(network, *splits, view, optimization)
    with pytest.raises(SettingError, match="view: must be a function"):
        SelfSupervised(network, *data(), None, optimization)


class Averaged(Classification):
    def validation_loss(self, outputs, labels):
        return F.cross_entropy(outputs, labels)


class Mistaken(Classification):
    def validation_loss(self, outputs, labels):
        return F.nll_loss(outputs, labels[1:], reduction="none")


@pytest.mark.parametrize(
    ("kind", "sentence"),
    [
        (Averaged, "must be one number per example, .* not their mean"),
        (Mistaken, "cannot be taken of"),
    ],
)
def test_a_validation_loss_is_looked_at_before_anything_trains(kind, sentence):
    objective = kind(network, *data(), Optimization(batch_size=16))
    with pytest.raises(SettingError, match=f"^validation_loss: {sentence}"):
        tuned(objective)
    with pytest.raises(SettingError, match=f"^validation_loss: {sentence}"):
        Trainer(objective, [])


# What regularizers mean ------------------------------------------------------------------------------


class Bag(nn.Module):
    def __init__(self):
        super().__init__()
        self.words, self.out = nn.Embedding(20, 8), nn.Linear(8, 3)

    def forward(self, tokens):
        return self.out(self.words(tokens).mean(1))


def tokens():
    return classifier([((x.abs() * 5).long().clamp(max=19), y) for x, y in data()], Bag)


@pytest.mark.parametrize("name", ["mixup", "gaussian_input_noise", "adaptive_mixup"])
def test_what_mixes_or_shifts_inputs_needs_real_ones(name):
    with pytest.raises(SettingError, match=rf"{name} needs real_inputs \(inputs of real numbers"):
        tune(tokens(), SMOOTHING | {name: {}}, steps=20, warmup_steps=10)


def test_noise_on_a_layer_that_sees_whole_numbers_is_refused():
    with pytest.raises(SettingError, match=r"dropout\.parts\.words: .* no real numbers"):
        tune(tokens(), {"dropout": {"rate": Tune(0.1), "parts": {"words": ["words"]}}}, steps=20, warmup_steps=10)
    assert tune(tokens(), {"dropout": {"rate": Tune(0.1)}}, steps=20, warmup_steps=10).metrics


class Regression(Classification):
    """Predicts real values; only what it provides matters here."""

    provides = Classification.provides - {"classes", "probs"}


@pytest.mark.parametrize(
    "name",
    ["label_smoothing", "ensemble_targets", "self_distillation_targets", "stablemax_cross_entropy"],
)
def test_what_means_probabilities_of_classes_is_refused_elsewhere(name):
    objective = Regression(network, *data(), Optimization(batch_size=16))
    with pytest.raises(SettingError, match=rf"{name} needs class_probabilities \(targets that are probabilities"):
        Regularizers([regularizers[name]()], objective, {"progress"})
    Regularizers([regularizers["mixup"]()], objective)  # real values can be mixed
