"""Two levels that are means over examples, as methods need them that look at a batch of examples at a time."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from selftune.shapes import Float, Int, Tensor

Examples = Int[Tensor, "batch"] | None
"""Numbers of examples, counted from 0; None stands for all."""

LevelOnExamples = Callable[[Mapping[str, Tensor], Mapping[str, Any], Examples], Float[Tensor, ""]]
"""(parameters, values of the hyperparameters, examples) -> the mean over these examples, of shape ()."""


@dataclass(frozen=True)
class FiniteSum:
    """What the two levels of a smooth objective are on some of their examples.

    What belongs to no example, such as a penalty on weights, counts fully on every batch, so that the mean over
    all batches is the level itself.

    Args:
        lower: the lower level on training examples.
        upper: the upper level on validation examples.
        lower_examples, upper_examples: how many there are, at least 1.

    >>> import torch
    >>> def squared(parameters, values, examples):
    ...     x = torch.tensor([1.0, 3.0])
    ...     return (parameters["x"] - (x if examples is None else x[examples])).square().mean()
    >>> FiniteSum(squared, squared, 2, 2).lower({"x": torch.tensor(1.0)}, {}, torch.tensor([1]))
    tensor(4.)
    """

    lower: LevelOnExamples
    upper: LevelOnExamples
    lower_examples: int
    upper_examples: int
