import math

import numpy as np
import pytest
import torch
from rounding import rounding
from torch import nn

from selftune import Optimization, Regression, SettingError, Tune, tune

BATCHES = Optimization(batch_size=8)


def data(numbers=None, n=32, seed=0):
    generator = torch.Generator().manual_seed(seed)
    inputs = torch.randn(n, 4, generator=generator)
    labels = inputs @ torch.randn(4, numbers or 1, generator=generator)
    return inputs, labels if numbers else labels[:, 0]


def regression(numbers=None, outputs=None, **settings):
    split = data(numbers)
    return Regression(lambda: nn.Linear(4, outputs or numbers or 1), split, split, split, BATCHES, **settings)


@pytest.mark.parametrize(
    ("loss", "written_out"),
    [
        ("squared", lambda e: e**2),
        ("absolute", abs),
        ("huber", lambda e: e**2 / 2 if abs(e) <= 1 else abs(e) - 0.5),
        ("log_cosh", lambda e: math.log(math.cosh(e))),
    ],
)
def test_losses_are_those_of_their_names(loss, written_out):
    errors = torch.tensor([-3.0, -0.5, 0.0, 0.25, 2.0], dtype=torch.float64)
    expected = torch.tensor([written_out(float(e)) for e in errors], dtype=torch.float64)
    found = regression(loss=loss).loss(errors, torch.zeros_like(errors))
    assert (found - expected).abs().max() <= rounding(3.0)


def test_several_numbers_per_example_are_averaged():
    outputs = torch.tensor([[1.0, 3.0], [0.0, 0.0]])
    assert regression(numbers=2).loss(outputs, torch.zeros(2, 2)).tolist() == [5.0, 0.0]


def test_one_number_in_a_column_is_one_number():
    split = data()
    column = split[0], split[1].unsqueeze(1)
    objective = Regression(lambda: nn.Linear(4, 1), column, split, split, BATCHES)
    assert objective.splits()["train"]["labels"].shape == (32,)
    assert objective.outputs(objective.network(), objective.splits()["train"]).shape == (32,)
    assert objective.quantities()["logits"].axes == ("batch",)


def test_metrics_are_errors_in_units_of_the_labels():
    objective = regression()
    labels = objective.splits()["train"]["labels"]
    perfect, mean = objective.metrics(labels, labels), objective.metrics(labels.mean().expand(32), labels)
    assert perfect["r_squared"].mean() == 1
    assert mean["r_squared"].mean().abs() <= rounding(dtype=torch.float32)
    assert objective.metrics(labels + 2, labels)["absolute_error"].mean() == pytest.approx(2)


@pytest.mark.parametrize(("loss", "best"), [("squared", 1.5), ("absolute", 0.0)])
def test_the_constant_answer_has_the_least_loss(loss, best):
    split = torch.randn(8, 4), torch.tensor([0.0, 0.0, 0.0, 0.0, 0.0, 2.0, 4.0, 6.0])
    objective = Regression(lambda: nn.Linear(4, 1), split, split, split, BATCHES, loss=loss)
    assert float(objective.constant_answer()) == pytest.approx(best, abs=rounding(6, dtype=torch.float32))


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"loss": "hubr"}, "did you mean huber"),
        ({"loss": "squared", "delta": 2.0}, "belongs to the loss 'huber'"),
        ({"loss": "huber", "delta": -1.0}, "above 0"),
        ({"loss": nn.MSELoss()}, "not their mean"),
        ({"outputs": 3}, "for class numbers take Classification"),
    ],
)
def test_what_does_not_fit_is_refused(settings, sentence):
    with pytest.raises(SettingError, match=sentence):
        regression(**settings)


def test_labels_that_are_no_numbers_are_refused():
    inputs, labels = data()
    labels = labels.clone()
    labels[3] = math.nan
    with pytest.raises(SettingError, match="nan or infinity"):
        Regression(lambda: nn.Linear(4, 1), (inputs, labels), data(), data(), BATCHES)


def test_a_regression_is_tuned():
    split = tuple(tensor.numpy().astype(np.float64) for tensor in data(n=64))
    network = lambda: nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 1))  # noqa: E731
    objective = Regression(network, split, split, split, BATCHES, loss="huber", delta=0.5)
    tuned = {
        "weight_decay": {"strength": Tune(1e-3)},
        "dropout": {"rate": Tune(0.1)},
        "mixup": {"alpha": Tune(0.1)},
    }
    result = tune(objective, tuned, steps=30, warmup_steps=10)
    assert {"validation_squared_error", "validation_absolute_error", "test_r_squared"} <= set(result.metrics)
