"""Implicit differentiation online: train a cycle, solve a truncated linear system, move the hyperparameters."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from selftune.errors import SettingError
from selftune.hyperparameters import Space
from selftune.methods.budget import Budget
from selftune.methods.cycle_settings import CycleSettings
from selftune.methods.cycles import Cycle, CycleMethod
from selftune.methods.measures import average
from selftune.methods.method import HyperStep
from selftune.methods.reports import ImplicitHypergradient, Trained
from selftune.methods.tunable import not_differentiable
from selftune.methods.work_orders import Train
from selftune.shapes import Tensor

System = Literal["neumann", "descent", "conjugate_gradient"]


@dataclass(frozen=True)
class OnlineImplicitSettings(CycleSettings):
    """Settings of ``OnlineImplicit``: what approximates the solution q of (H + damping I) q = b.

    Args:
        system: ``neumann`` sums the series from nothing; ``descent`` takes gradient steps on the system, each on a
            fresh batch; ``conjugate_gradient`` solves the system of one batch.
        system_steps: terms of the series, steps of descent, or steps of conjugate gradients.
        system_rate: of ``neumann`` and ``descent``; they diverge from 2 / (largest curvature) on. None takes
            learning_rate / (1 + momentum) of the objective, below that limit wherever SGD itself is stable.
        damping: not negative; added to the curvature, which is small, negative or unknown along most directions of
            a mini-batch. It keeps |q| within |b| / damping; 0 sets no limit.
        warm: whether ``descent`` and ``conjugate_gradient`` go on from the last hyper-step's q. None says yes to
            descent, no to conjugate gradients: what solves one batch's system is far from solving the next one's.

    The others are those of ``CycleSettings``.

    Raises:
        SettingError: if a setting is out of its range, or a rate is given to conjugate gradients.

    >>> OnlineImplicitSettings(system="descent", system_steps=1, train_steps=1).system_rate is None
    True
    """

    system: System = "neumann"
    system_steps: int = 10
    system_rate: float | None = None
    damping: float = 0.1
    warm: bool | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.system_steps < 1:
            raise SettingError("system_steps", f"must be at least 1, got {self.system_steps}")
        if self.system_rate is not None:
            if not (self.system_rate > 0 and math.isfinite(self.system_rate)):
                raise SettingError("system_rate", f"must be a positive number, got {self.system_rate}")
            if self.system == "conjugate_gradient":
                raise SettingError(
                    "system_rate", "is not for conjugate_gradient, which finds its own; leave it out"
                )
        if not (self.damping >= 0 and math.isfinite(self.damping)):
            raise SettingError("damping", f"must be a number of at least 0, got {self.damping}")
        if self.warm and self.system == "neumann":
            raise SettingError("warm", "is not for neumann, which always starts from nothing; leave it out")

    @property
    def keeps_solution(self) -> bool:
        """Whether q is kept from one hyper-step to the next."""
        return self.system == "descent" if self.warm is None else self.warm


_OF_THE_SYSTEM = ("system", "system_steps", "system_rate", "damping", "warm")


class OnlineImplicit(CycleMethod):
    """Implicit differentiation of networks in training, for a team of trainers; heuristic.

    Every member trains its own network for ``train_steps``, approximates -J'(H + damping I)^-1 b at its weights
    on mini-batches, and the mean over the team moves the hyperparameters that all share. The networks are not at a
    minimiser, the system is truncated and its batches are small: the error of the hypergradient is not bounded,
    and nothing is certified.

    With ``neumann`` this is stocBiO (arXiv 2010.07962), with ``descent`` AmIGO (arXiv 2111.14580); with descent of
    one step after one training step nearly SOBA (arXiv 2201.13409), which moves all three at once.

    Args:
        budget: when to stop.
        settings: see ``OnlineImplicitSettings``.
        team_size: number of trainers; nothing is asked before all have joined.

    >>> from selftune.hyperparameters import Hyperparameter, Positive, Space
    >>> method = OnlineImplicit(Budget(steps=10), OnlineImplicitSettings(warmup_steps=0))
    >>> method.join(0, Space([Hyperparameter("weight_decay.strength", Positive(), 1e-3, tuned=True)]))
    >>> method.ask()
    {0: Train(number=-1)}
    """

    def __init__(self, budget: Budget, settings: OnlineImplicitSettings | None = None, team_size: int = 1) -> None:
        self.settings = settings or OnlineImplicitSettings()
        super().__init__(budget, self.settings, team_size)

    def mistakes(self, space: Space) -> Iterator[SettingError]:
        yield from super().mistakes(space)
        yield from not_differentiable(space, "implicit")

    def _train(self, member: int, cycle: Cycle) -> Train:
        settings = {key: getattr(self.settings, key) for key in _OF_THE_SYSTEM}
        return Train(**cycle, estimator="implicit", settings=settings)

    def _move(self, reports: dict[int, Trained], together: list[Tensor]) -> HyperStep:
        (hypergradient,) = together
        found = [report.hypergradient for report in reports.values()]
        gradients = [one for one in found if isinstance(one, ImplicitHypergradient)]
        certificate = {
            "hypergradient_norm": float(hypergradient.norm()),
            "system_residual": average(float(one.system_residual) for one in gradients),
            "certified": 0.0,
        }
        step = self._row(list(reports.values()), hypergradient, certificate=certificate)
        self._update([hypergradient])
        return step
