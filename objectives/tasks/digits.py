"""Handwritten digits: scikit-learn's 1797 images of 8 x 8 pixels, ten classes, an MLP."""

from __future__ import annotations

from dataclasses import dataclass

from selftune.objectives.data.digit_images import PIXELS, load_digit_splits
from selftune.objectives.networks.perceptron import check_hidden, perceptron
from torch import nn

from selftune.lower_level.classification import Classification
from selftune.lower_level.objective import tasks
from selftune.lower_level.optimization import Optimization


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
    optimizer: str = "sgd"
    learning_rate: float = 0.03
    momentum: float | None = None
    validation_batch_size: int | None = None
    split_seed: int = 0

    def __post_init__(self) -> None:
        check_hidden(self.hidden)
        optimization = Optimization(self.batch_size, self.optimizer, self.learning_rate, self.momentum)
        splits = load_digit_splits(self.train_examples, self.validation_examples, self.split_seed)
        super().__init__(self._network, *splits, optimization, self.validation_batch_size)

    def _network(self) -> nn.Module:
        return perceptron(PIXELS * PIXELS, self.hidden, 10)


tasks.register("digits", Digits)
