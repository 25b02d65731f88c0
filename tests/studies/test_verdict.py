import math
import re

import pytest
import torch
from torch import nn

from selftune.lower_level.classification import Classification
from selftune.lower_level.optimization import Optimization
from selftune.studies.verdict import constant_measures, warnings_of

LABELS = torch.tensor([0] * 10 + [1] * 6 + [2] * 4)


@pytest.fixture
def objective():
    """Training shares 0.5, 0.3 and 0.2; the splits that judge have others."""
    data = {size: (torch.zeros(size, 2), LABELS[:size]) for size in (20, 16, 12)}
    return Classification(lambda: nn.Linear(2, 3), data[20], data[16], data[12], Optimization(batch_size=4))


def test_a_constant_answer_names_the_shares_of_the_training_split(objective):
    found = constant_measures(objective)
    assert found["validation_accuracy"] == pytest.approx(10 / 16)
    assert found["test_accuracy"] == pytest.approx(10 / 12)
    entropy = -(10 * math.log(0.5) + 6 * math.log(0.3)) / 16
    assert found["validation_loss"] == pytest.approx(entropy, rel=1e-6)


def test_a_class_that_training_lacks_costs_much_and_not_everything():
    train, judged = (
        (torch.zeros(4, 2), torch.tensor([0, 0, 1, 1])),
        (torch.zeros(4, 2), torch.tensor([0, 1, 2, 2])),
    )
    rare = Classification(lambda: nn.Linear(2, 3), train, judged, judged, Optimization(batch_size=2))
    assert 10 < constant_measures(rare)["validation_loss"] < math.inf


FINE = {"validation_loss": 0.8, "validation_accuracy": 0.7, "test_accuracy": 0.9}


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("validation_accuracy", 0.5, "tuned: validation accuracy 0.5000 is worse than .* 0.6250;"),
        ("test_accuracy", 0.8, "tuned: test accuracy 0.8000 is worse than .* 0.8333;"),
        ("validation_loss", 9.0, "tuned: validation loss 9 is worse than one constant answer's, 0.8847;"),
    ],
)
def test_what_is_worse_is_said_with_both_numbers(objective, name, value, said):
    (sentence,) = warnings_of(objective, {"tuned": FINE | {name: value}, "start values held": FINE, "none": {}})
    assert re.match(said, sentence)


def test_objectives_without_a_constant_answer_are_not_judged(objective, monkeypatch):
    monkeypatch.setattr(objective, "constant_answer", lambda: None)
    assert warnings_of(objective, {"tuned": {"validation_loss": math.inf}}) == []
