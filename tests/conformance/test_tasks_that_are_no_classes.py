"""Regularizers on objectives that are no classification by tensors: what is not refused trains.

What a regularizer needs is checked when it is bound; where axes or types were others, training would fail, or go
on with numbers that were broadcast to something else.
"""

import warnings

import pytest
import torch
import torch.nn.functional as F
from full_matrix import first_of
from torch import nn
from trainers import cycle, fixed, replay, tuned

from selftune.errors import SettingError
from selftune.lower_level.binary_classification import BinaryClassification
from selftune.lower_level.function_objective import FunctionObjective
from selftune.lower_level.multi_label_classification import MultiLabelClassification
from selftune.lower_level.optimization import Optimization
from selftune.lower_level.regression import Regression
from selftune.regularization.regularizer import regularizers
from selftune.training import Trainer

OPTIMIZATION = Optimization(batch_size=16, learning_rate=0.05)
STEPS = 3
GENERATOR = torch.Generator().manual_seed(0)
INPUTS = torch.randn(96, 6, generator=GENERATOR)
TOKENS = torch.randint(5, (96, 6), generator=GENERATOR)


class LanguageModel(nn.Sequential):
    def __init__(self):
        super().__init__(nn.Embedding(5, 8), nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 5))


def network(outputs):
    return lambda: nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, outputs))


def split(*tensors):
    return [tuple(tensor[start : start + 32] for tensor in tensors) for start in (0, 32, 64)]


def one_number():
    return Regression(network(1), *split(INPUTS, INPUTS[:, 0]), OPTIMIZATION)


def two_numbers():
    return Regression(network(2), *split(INPUTS, INPUTS[:, :2]), OPTIMIZATION)


def binary():
    return BinaryClassification(network(1), *split(INPUTS, (INPUTS[:, 0] > 0).long()), OPTIMIZATION)


def multi_label():
    return MultiLabelClassification(network(3), *split(INPUTS, (INPUTS[:, :3] > 0).float()), OPTIMIZATION)


def language_model():
    def loss(outputs, batch):
        return F.cross_entropy(outputs.transpose(1, 2), batch["tokens"], reduction="none").mean(dim=1)

    parts = [{"tokens": tokens} for (tokens,) in split(TOKENS)]
    forward = lambda network, batch: network(batch["tokens"])  # noqa: E731
    return FunctionObjective(LanguageModel, loss, *parts, forward=forward, optimization=OPTIMIZATION)


def pairs():
    def loss(outputs, batch):
        return F.cross_entropy(outputs, batch[1], reduction="none")

    parts = split(INPUTS, (INPUTS[:, 0] > 0).long())
    forward = lambda network, batch: network(batch[0])  # noqa: E731
    return FunctionObjective(network(2), loss, *parts, forward=forward, optimization=OPTIMIZATION)


def _trained(trainer):
    if not len(trainer.space):
        replay(trainer, STEPS)
        return
    try:
        trainer.execute(cycle(trainer, STEPS))
    except SettingError as error:  # no layer of the language model can respond
        if "a response cannot be fitted" not in error.message:
            raise


@pytest.mark.parametrize("make", [binary, language_model, pairs, multi_label, one_number, two_numbers])
@pytest.mark.parametrize("members", [fixed, *first_of([tuned], 0)])
def test_what_is_bound_trains(make, members):
    objective, trained = make(), 0
    for name in regularizers.names():
        try:
            trainer = Trainer(objective, members(name), steps=40)
        except SettingError:
            continue
        with warnings.catch_warnings():
            warnings.filterwarnings("error", "Using a (target|input) size", UserWarning)
            _trained(trainer)
        weights = torch.cat([p.detach().flatten() for p in trainer.plain_network().parameters()])
        assert bool(weights.isfinite().all()), name
        trained += 1
    assert trained > 25
