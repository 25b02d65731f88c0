import pytest
import torch
import torch.nn.functional as F
from rounding import rounding
from torch import nn

from selftune import MultiLabelClassification, Optimization, SettingError, Tune, tune
from selftune.regularization.regularizer import regularizers
from selftune.training.lower_level import LowerLevel
from selftune.training.seeds import Streams


def data(labels=None, n=32):
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(n, 4, generator=generator)
    return inputs, (inputs[:, :3] > 0.3).float() if labels is None else labels


def multi_label(network=None, labels=None):
    split = data(labels)
    build = network or (lambda: nn.Linear(4, 3))
    return MultiLabelClassification(build, split, split, split, Optimization(batch_size=8))


def test_labels_that_nobody_knows_count_in_no_loss_and_no_metric():
    objective = multi_label()
    scores = torch.tensor([[1.0, -2.0, 0.5], [3.0, 0.0, 0.0]], dtype=torch.float64)
    labels = torch.tensor([[1, 0, -100], [0, -100, -100]])
    terms = [F.softplus(torch.tensor(-1.0)), F.softplus(torch.tensor(-2.0)), F.softplus(torch.tensor(3.0))]
    losses = objective.loss(scores, objective.plain_targets(labels))
    of_examples, counts = losses.of_examples(2)
    assert counts.tolist() == [2, 1]
    assert float(of_examples[0]) == pytest.approx(float(terms[0] + terms[1]) / 2, rel=1e-6)
    assert float(losses.mean()) == pytest.approx(float(sum(terms)) / 3, rel=1e-6)
    assert float(objective.metrics(scores, labels)["accuracy"].mean()) == pytest.approx(2 / 3)


def test_what_is_mixed_with_a_label_that_nobody_knows_does_not_count():
    labels = data()[1].clone()
    labels[::3, 1] = -100
    cpu = torch.device("cpu")
    lower = LowerLevel(multi_label(labels=labels), [regularizers["mixup"](alpha=1.0)], Streams(0, 0, cpu), cpu)
    step = lower.begin(0, lower.batches.at(0), lower.space.values(lower.space.start), "elementary")
    lower.plain_loss(step)
    unknown = step.labels == -100
    expected = ~(unknown | unknown[step.mixings[0].partners])
    assert bool((lower.objective.losses(step).weights == expected).all())
    assert 0 <= float(step.targets.min()) <= float(step.targets.max()) <= 1


def test_the_constant_answer_has_the_share_of_every_label_that_is_known():
    labels = torch.zeros(32, 2)
    labels[:8, 0], labels[8:16, 0], labels[:16, 1] = 1, -100, 1
    shares = torch.sigmoid(multi_label(lambda: nn.Linear(4, 2), labels).constant_answer())
    assert (shares - torch.tensor([8 / 24, 16 / 32])).abs().max() <= rounding(dtype=torch.float32)


@pytest.mark.parametrize(
    ("labels", "network", "sentence"),
    [
        (torch.arange(32) % 3, None, "Classification takes one class number per example"),
        (torch.full((32, 3), 0.5), None, "Regression takes real numbers"),
        (torch.full((32, 3), -100), None, "none counts"),
        (None, lambda: nn.Linear(4, 2), r"of shape \(batch, 3\)"),
    ],
)
def test_what_does_not_fit_is_refused(labels, network, sentence):
    with pytest.raises(SettingError, match=sentence):
        multi_label(network, labels)


def test_it_is_tuned_with_labels_that_nobody_knows():
    labels = data()[1].clone()
    labels[::3, 1] = -100
    network = lambda: nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3))  # noqa: E731
    result = tune(multi_label(network, labels), {"dropout": {"rate": Tune(0.1)}}, steps=30, warmup_steps=10)
    assert 0 <= result.metrics["test_accuracy"] <= 1
