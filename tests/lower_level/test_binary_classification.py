import pytest
import torch
import torch.nn.functional as F
from rounding import rounding
from torch import nn

from selftune import BinaryClassification, Optimization, SettingError, Tune, tune
from selftune.regularization.composition import Regularizers
from selftune.regularization.regularizer import regularizers
from selftune.studies.verdict import constant_measures


def data(labels=None, n=32):
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(n, 4, generator=generator)
    return inputs, (inputs[:, 0] > 0).long() if labels is None else labels


def binary(network=None, labels=None, **settings):
    split = data(labels)
    build = network or (lambda: nn.Linear(4, 1))
    return BinaryClassification(build, split, split, split, Optimization(batch_size=8), **settings)


@pytest.mark.parametrize("outputs", [(), (1,)])
def test_outputs_are_one_score_per_example_in_a_column_or_not(outputs):
    network = lambda: nn.Sequential(nn.Linear(4, 1), nn.Unflatten(1, (1,)) if outputs else nn.Flatten(0))  # noqa: E731
    objective = binary(network)
    scores, labels = torch.tensor([-1.0, 2.0]), torch.tensor([0, 1])
    expected = F.cross_entropy(torch.stack([torch.zeros(2), scores], dim=1), labels, reduction="none")
    difference = objective.loss(scores, objective.targets(labels)) - expected
    assert difference.abs().max() <= rounding(2, dtype=torch.float32)
    assert objective.outputs(objective.network(), objective.splits()["test"]).shape == (32,)


def test_the_constant_answer_names_the_more_frequent_label():
    measures = constant_measures(binary(labels=(torch.arange(32) < 8).long()))
    assert measures["test_accuracy"] == 0.75


def test_ignored_examples_are_left_out():
    labels = data()[1].clone()
    labels[:4] = -100
    assert len(binary(labels=labels).splits()["train"]["labels"]) == 28


def test_what_reads_classes_is_refused_and_what_reads_features_is_not():
    with pytest.raises(SettingError, match="probs, which BinaryClassification does not provide"):
        Regularizers([regularizers["confidence_penalty"]()], binary())
    for name in ("supervised_contrastive", "mixup"):
        Regularizers([regularizers[name]()], binary())


@pytest.mark.parametrize(
    ("labels", "network", "sentence"),
    [
        (torch.arange(32) % 3, None, "Classification takes more classes"),
        (torch.zeros(32, 3), None, "MultiLabelClassification takes rows of zeros and ones"),
        (torch.full((32,), 0.5), None, "Regression takes real numbers"),
        (None, lambda: nn.Linear(4, 2), "Classification takes a score per class"),
    ],
)
def test_what_does_not_fit_is_refused(labels, network, sentence):
    with pytest.raises(SettingError, match=sentence):
        binary(network, labels)


def test_it_is_tuned():
    network = lambda: nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 1))  # noqa: E731
    result = tune(binary(network), {"dropout": {"rate": Tune(0.1)}}, steps=30, warmup_steps=10)
    assert 0 <= result.metrics["test_accuracy"] <= 1
