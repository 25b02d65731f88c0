"""The space of a search: keys of a study file, what each is drawn from, and when it is there at all."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch

from selftune.hyperparameters.distribution import Distribution


@dataclass(frozen=True)
class Swept:
    """A key that is swept.

    Args:
        key: path in the study file, such as ``objective.optimization.learning_rate``.
        distribution: what its values are drawn from.
        when: values of other swept keys under which it is there; it is left out under any other.
        inherited: whether a trial that copies another takes over its value as it is.
    """

    key: str
    distribution: Distribution
    when: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)
    inherited: bool = False

    def applies(self, values: Mapping[str, Any]) -> bool:
        """Whether the key is there, given the values of those before it."""
        return all(key in values and values[key] in options for key, options in self.when.items())


@dataclass(frozen=True)
class SearchSpace:
    """Swept keys in the order in which they are drawn: one that depends on another comes after it.

    >>> from selftune.hyperparameters.distribution import Choices, Uniform
    >>> optimizer = Swept("objective.optimization.optimizer", Choices(("adam", "sgd")))
    >>> momentum = Swept("objective.optimization.momentum", Uniform(0, 1), {optimizer.key: ("sgd",)})
    >>> SearchSpace((optimizer, momentum)).draw(lambda swept: swept.distribution.quantile(0.0))
    {'objective.optimization.optimizer': 'adam'}
    """

    swept: tuple[Swept, ...]

    @property
    def keys(self) -> tuple[str, ...]:
        return tuple(one.key for one in self.swept)

    def __len__(self) -> int:
        return len(self.swept)

    def __iter__(self) -> Iterator[Swept]:
        return iter(self.swept)

    def __getitem__(self, key: str) -> Swept:
        return next(one for one in self.swept if one.key == key)

    def draw(self, value: Callable[[Swept], Any]) -> dict[str, Any]:
        """The values of one trial, by key: ``value`` gives that of each key that is there."""
        values: dict[str, Any] = {}
        for one in self.swept:
            if one.applies(values):
                values[one.key] = value(one)
        return values

    def sample(self, generator: torch.Generator) -> dict[str, Any]:
        """The values of one trial, drawn at random."""
        return self.draw(lambda swept: swept.distribution.sample(generator))
