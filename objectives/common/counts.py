"""Whole numbers that say how often something happens."""

from __future__ import annotations

from dataclasses import dataclass

from selftune.hyperparameters import Integer


@dataclass(frozen=True)
class Count(Integer):
    """A whole number from ``low`` to ``high`` that never moves while training, and is the same in every part.

    Regularizers read it as a plain number, so that they can decide by it without asking the device.

    >>> Count(1, 1000).contains(20)
    True
    """

    movable = False
