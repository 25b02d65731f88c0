"""Training with the start values held: what tuning is compared with, and what searches train."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch

from selftune.errors import SettingError
from selftune.fields import check_fields
from selftune.hyperparameters import Space
from selftune.methods.budget import Budget
from selftune.methods.cycle_settings import CycleSettings
from selftune.methods.cycles import Cycle, CycleMethod
from selftune.methods.method import HyperStep
from selftune.methods.reports import Trained
from selftune.methods.synchronization import WITHOUT_TEAM_MEAN
from selftune.methods.work_orders import Train
from selftune.shapes import Tensor


@dataclass(frozen=True)
class HeldSettings:
    """Settings of ``Held``.

    Args:
        train_steps: training steps between two looks at the validation loss.
        checkpoint_every: looks between two checkpoints of every trainer.

    Raises:
        SettingError: if a setting is out of its range.

    >>> HeldSettings(train_steps=100).checkpoint_every
    10
    """

    REFUSED: ClassVar[Mapping[str, str]] = WITHOUT_TEAM_MEAN

    train_steps: int = 25
    checkpoint_every: int = 10

    def __post_init__(self) -> None:
        check_fields(self)
        for key in ("train_steps", "checkpoint_every"):
            if getattr(self, key) < 1:
                raise SettingError(key, f"must be at least 1, got {getattr(self, key)}")


class Held(CycleMethod):
    """Plain training with the start values held. Nothing moves, so there need not be anything to tune.

    Every look at the validation loss is a hyper-step whose hypergradient is zero: the best network, patience,
    trajectory and schedule are those of methods that tune, at the price of plain training.

    Args:
        budget: when to stop.
        settings: see ``HeldSettings``.
        team_size: number of trainers, each with a network of its own; nothing is asked before all have joined.

    Raises:
        SettingError: if the budget is in work.

    >>> from selftune.hyperparameters import Hyperparameter, Positive, Space
    >>> method = Held(Budget(steps=10))
    >>> method.join(0, Space([Hyperparameter("weight_decay.strength", Positive(), 1e-3, tuned=True)]))
    >>> method.ask()
    {0: Train(number=-1)}
    """

    def __init__(self, budget: Budget, settings: HeldSettings | None = None, team_size: int = 1) -> None:
        self.settings = settings or HeldSettings()
        cycles = CycleSettings(
            warmup_steps=0,
            train_steps=self.settings.train_steps,
            checkpoint_every=self.settings.checkpoint_every,
            learning_rate=0.0,
        )
        super().__init__(budget, cycles, team_size)

    def mistakes(self, space: Space) -> Iterator[SettingError]:
        yield from ()

    def _train(self, member: int, cycle: Cycle) -> Train:
        return Train(**cycle, estimator="held")

    def _move(self, reports: dict[int, Trained], together: list[Tensor]) -> HyperStep:
        step = self._row(list(reports.values()), torch.zeros_like(self._u))
        self._hyper_step += 1
        return step
