"""Split digits: classes come one group after the other, and none of the earlier images is kept."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from selftune.objectives.data.digit_images import PIXELS, load_digit_splits
from selftune.objectives.networks.perceptron import check_hidden, perceptron
from torch import nn

from selftune.errors import SettingError
from selftune.lower_level.classification import Classification
from selftune.lower_level.objective import Stage, tasks
from selftune.lower_level.optimization import Optimization


@dataclass
class SplitDigits(Classification):
    """A classifier of digits that sees groups of classes in turn: continual learning.

    Validation and test images are of all classes, so the validation loss rewards what remembers the groups that
    are gone. The last stage goes on until the study ends.

    Args:
        groups: classes of every stage; each class in one of them.
        stage_steps: training steps of every stage but the last.
        hidden: units of every hidden layer.
        train_examples, validation_examples: sizes of the two splits; the rest of the 1797 is the test split.
        batch_size, optimizer, learning_rate, momentum: see ``Optimization``.
        validation_batch_size: examples per hypergradient; None uses the whole validation split.
        split_seed: decides which images go into which split.

    >>> [len(stage.index) for stage in SplitDigits().stages()]
    [413, 387]
    """

    groups: tuple[tuple[int, ...], ...] = ((0, 1, 2, 3, 4), (5, 6, 7, 8, 9))
    stage_steps: int = 400
    hidden: tuple[int, ...] = (100,)
    train_examples: int = 800
    validation_examples: int = 500
    batch_size: int = 64
    optimizer: str = "sgd"
    learning_rate: float = 0.01
    momentum: float = 0.0
    validation_batch_size: int | None = None
    split_seed: int = 0

    def __post_init__(self) -> None:
        check_hidden(self.hidden)
        if sorted(label for group in self.groups for label in group) != list(range(10)):
            raise SettingError("groups", f"must hold each class from 0 to 9 once, got {list(self.groups)}")
        if self.stage_steps < 1:
            raise SettingError("stage_steps", f"must be at least 1, got {self.stage_steps}")
        splits = load_digit_splits(self.train_examples, self.validation_examples, self.split_seed)
        labels = splits[0][1]
        stages = [
            Stage(torch.nonzero(torch.isin(labels, torch.tensor(group))).flatten(), self.stage_steps)
            for group in self.groups
        ]
        optimization = Optimization(self.batch_size, self.optimizer, self.learning_rate, self.momentum)
        super().__init__(self._network, *splits, optimization, self.validation_batch_size, stages=stages)

    def _network(self) -> nn.Module:
        return perceptron(PIXELS * PIXELS, self.hidden, 10)


tasks.register("split_digits", SplitDigits)
