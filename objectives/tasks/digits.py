"""Handwritten digits: scikit-learn's 1797 images of 8 x 8 pixels, ten classes, an MLP."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import Literal

import torch
from torch import nn

from selftune.errors import SettingError
from selftune.objective import Classification, Optimization, tasks

EXAMPLES = 1797


@dataclass
class Digits(Classification):
    """A classifier of handwritten digits with hidden layers ``hidden1``, ``hidden2``... and ``output``.

    Pixels are standardised by the mean and the standard deviation of the training split. Without
    regularization the network fits the training split perfectly, so there is something to tune.

    Args:
        hidden: units of every hidden layer.
        train_examples, validation_examples: sizes of the two splits; the rest of the 1797 is the test split.
        batch_size, optimizer, learning_rate, momentum: see ``Optimization``.
        validation_batch_size: examples per hypergradient; None uses the whole validation split.
        split_seed: decides which images go into which split.

    >>> len(Digits().splits()["test"]["labels"])
    697
    """

    hidden: tuple[int, ...] = (128, 128)
    train_examples: int = 400
    validation_examples: int = 700
    batch_size: int = 64
    optimizer: Literal["sgd", "adam", "adamw"] = "sgd"
    learning_rate: float = 0.03
    momentum: float = 0.9
    validation_batch_size: int | None = None
    split_seed: int = 0

    def __post_init__(self) -> None:
        if any(units < 1 for units in self.hidden):
            raise SettingError("hidden", f"every layer needs at least one unit, got {list(self.hidden)}")
        left = EXAMPLES - self.train_examples - self.validation_examples
        if min(self.train_examples, self.validation_examples, left) < 1:
            raise SettingError(
                "train_examples",
                f"{self.train_examples} training and {self.validation_examples} validation examples leave {left}"
                f" of {EXAMPLES} for the test split; every split needs at least one",
            )
        optimization = Optimization(self.batch_size, self.optimizer, self.learning_rate, self.momentum)
        train, validation, test = _load(self.train_examples, self.validation_examples, self.split_seed)
        super().__init__(self._network, train, validation, test, optimization, self.validation_batch_size)

    def _network(self) -> nn.Module:
        layers: OrderedDict[str, nn.Module] = OrderedDict()
        width = 64
        for number, units in enumerate(self.hidden, start=1):
            layers[f"hidden{number}"] = nn.Linear(width, units)
            layers[f"relu{number}"] = nn.ReLU()
            width = units
        layers["output"] = nn.Linear(width, 10)
        return nn.Sequential(layers)


tasks.register("digits", Digits)


def _load(train: int, validation: int, seed: int) -> list[tuple[torch.Tensor, torch.Tensor]]:
    from sklearn.datasets import load_digits

    data = load_digits()
    order = torch.randperm(EXAMPLES, generator=torch.Generator().manual_seed(seed))
    inputs = torch.tensor(data.data, dtype=torch.float32)[order]
    labels = torch.tensor(data.target, dtype=torch.int64)[order]
    inputs = (inputs - inputs[:train].mean()) / inputs[:train].std()
    sizes = (train, validation, EXAMPLES - train - validation)
    return list(zip(inputs.split(sizes), labels.split(sizes), strict=True))
