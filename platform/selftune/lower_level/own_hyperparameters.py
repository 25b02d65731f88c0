"""Hyperparameters of an objective: temperatures, weights of loss terms, one weight per training example."""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from typing import Any, Self

from selftune.errors import SettingError, suggestion
from selftune.hyperparameters import Hyperparameter
from selftune.lower_level.example_weights import EXAMPLE_WEIGHTS
from selftune.regularization.step import Step

PREFIX = "objective."
"""What names of an objective's own hyperparameters begin with."""

_OWN = "_own_hyperparameters"


class OwnHyperparameters(ABC):
    """What has hyperparameters that it declares, and that are tuned like those of regularizers.

    >>> import torch
    >>> from torch import nn
    >>> from selftune import Classification, Optimization, Tune
    >>> data = torch.randn(32, 4), torch.arange(32) % 3
    >>> objective = Classification(lambda: nn.Linear(4, 3), data, data, data, Optimization(batch_size=8))
    >>> weighted = objective.with_values(example_weights=Tune(0.5))
    >>> weighted.hyperparameters[0].names[31], len(objective.hyperparameters)
    ('objective.example_weights[31]', 0)
    """

    declared: tuple[Hyperparameter, ...] = ()
    """Hyperparameters of its own, such as temperatures and weights of loss terms, by bare names, with defaults."""

    @property
    def hyperparameters(self) -> tuple[Hyperparameter, ...]:
        """Those ``declared``, and ``example_weights`` where they are used, named ``objective.<name>``."""
        own: dict[str, Hyperparameter] | None = self.__dict__.get(_OWN)
        if own is None:
            own = self.__dict__[_OWN] = {h.name: h.with_value(h.value, h.parts, PREFIX) for h in self.declared}
        return tuple(own.values())

    def with_values(self, **values: Any) -> Self:
        """The same objective with other values of its own hyperparameters.

        ``example_weights``, one factor in [0, 1] of the loss of each training example, is known to every objective
        whose data have an ``index``.

        Args:
            values: a number, one per part, or a ``Tune``.

        Raises:
            SettingError: if it has no such hyperparameter, or a value does not fit.
        """
        known = {h.name: h for h in (*self.declared, EXAMPLE_WEIGHTS)}
        own = {h.name.removeprefix(PREFIX): h for h in self.hyperparameters}
        for name, value in values.items():
            if name not in known:
                raise SettingError(name, f"unknown hyperparameter of the objective; {suggestion(name, known)}")
            parts = known[name].parts
            if known[name].per_example:
                parts = self.training_examples(name)
            try:
                own[name] = known[name].with_value(value, parts, PREFIX)
            except ValueError as error:
                raise SettingError(name, str(error)) from error
        changed = copy.copy(self)
        changed.__dict__[_OWN] = own
        return changed

    def value(self, step: Step, name: str) -> Any:
        """The current value of one of its own hyperparameters, shape () or (parts,), or (batch, ...) perturbed."""
        return step.value(next(h for h in self.hyperparameters if h.name == PREFIX + name))

    @abstractmethod
    def training_examples(self, key: str) -> tuple[str, ...]:
        """Labels of all training examples, their positions, as parts of hyperparameters per example.

        Raises:
            SettingError: with this key, if the data do not say which examples a batch holds.
        """
