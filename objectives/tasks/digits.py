"""Handwritten digits: scikit-learn's 1797 images of 8 x 8 pixels, ten classes, an MLP."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import nn

from selftune.errors import SettingError
from selftune.objective import Classification, NetworkObjective, Optimization, Split, tasks


@dataclass
class Digits(NetworkObjective):
    """A classifier of handwritten digits with hidden layers ``hidden1``, ``hidden2``... and ``output``.

    Args:
        hidden: units of every hidden layer.
        train_examples, validation_examples: sizes of the two splits; the rest of the 1797 is the test split.
        batch_size, optimizer, learning_rate, momentum: see ``Optimization``.
        validation_batch_size: examples per hypergradient; None uses the whole validation split.
        split_seed: which images go into which split.
    """
