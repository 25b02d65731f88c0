"""Settings that all online methods have in common."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from selftune.errors import SettingError
from selftune.fields import check_fields
from selftune.methods.aggregation import Aggregation
from selftune.methods.synchronization import Synchronization
from selftune.methods.update_rules import UpdateName


@dataclass(frozen=True)
class CycleSettings:
    """What all online methods have in common.

    Args:
        warmup_steps: training steps before the hyperparameters move.
        train_steps, validation_steps: training steps and hyper-steps of one cycle.
        optimizer, learning_rate: what moves the unconstrained hyperparameters; see ``UpdateSettings``.
        checkpoint_every: hyper-steps between two checkpoints of every trainer.
        aggregation: how the trainers' hypergradients become one, and what becomes of trainers that send nonsense.
        synchronization: for how many trainers a hyper-step waits.
        significance: level, between 0 and 1, at which a hyperparameter's hypergradients have to be told from noise
            before it moves (see ``Gate``); None lets all move from the start. Not with
            ``optimistic_mirror_descent``.
        pooled: units of a layer, and classes, move together at the learning rate, and each on its own at this
            share of it, from 0 to 1 (see ``Pools``); None moves each on its own alone.
    """

    warmup_steps: int = 200
    train_steps: int = 5
    validation_steps: int = 1
    optimizer: UpdateName = "rmsprop"
    learning_rate: float = 0.01
    checkpoint_every: int = 50
    aggregation: Aggregation = field(default_factory=Aggregation)
    synchronization: Synchronization = field(default_factory=Synchronization)
    significance: float | None = None
    pooled: float | None = None

    def __post_init__(self) -> None:
        check_fields(self)
        for key, low in (
            ("warmup_steps", 0),
            ("train_steps", 1),
            ("validation_steps", 1),
            ("checkpoint_every", 1),
        ):
            if getattr(self, key) < low:
                raise SettingError(key, f"must be at least {low}, got {getattr(self, key)}")
        if self.pooled is not None and not 0 <= self.pooled <= 1:
            raise SettingError("pooled", f"must be from 0 to 1, got {self.pooled}")
        if self.pooled is not None and self.optimizer == "optimistic_mirror_descent":
            raise SettingError("pooled", "is not for optimistic_mirror_descent; take rmsprop, adam or sgd")
        if not (self.learning_rate >= 0 and math.isfinite(self.learning_rate)):
            raise SettingError("learning_rate", f"must be a number of at least 0, got {self.learning_rate}")
        if self.significance is not None and not 0 < self.significance < 1:
            raise SettingError("significance", f"must be between 0 and 1, got {self.significance}")
        if self.significance is not None and self.optimizer == "optimistic_mirror_descent":
            raise SettingError(
                "significance",
                "is not for optimistic_mirror_descent, whose steps begin from a centre of its own; name another"
                " optimizer",
            )
