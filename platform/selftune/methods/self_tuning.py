"""Self-Tuning Networks as a state machine: train a cycle, take a hypergradient, move the hyperparameters."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import torch

from selftune.hyperparameters import Space, entropy_gradient, inverse_softplus, scale_of
from selftune.methods.budget import Budget
from selftune.methods.cycles import CycleMethod
from selftune.methods.measures import average
from selftune.methods.method import HyperStep, Report
from selftune.methods.self_tuning_settings import SCALE_BOUNDS, SelfTuningSettings
from selftune.methods.update_rules import UpdateRule, UpdateSettings
from selftune.shapes import Tensor


class SelfTuning(CycleMethod):
    """Self-Tuning Networks (arXiv 1903.03088) and Delta-STN (arXiv 2010.13514) for a team of trainers.

    Every member trains its own network for ``train_steps`` and reports the hypergradient of its validation
    loss; the mean over the team moves the hyperparameters that all share.

    Args:
        budget: when to stop.
        settings: see ``SelfTuningSettings``.
        team_size: number of trainers; nothing is asked before all have joined.

    >>> from selftune.hyperparameters import Hyperparameter, Positive
    >>> method = SelfTuning(Budget(steps=10), SelfTuningSettings(warmup_steps=0))
    >>> method.join(0, Space([Hyperparameter("weight_decay.strength", Positive(), 1e-3, tuned=True)]))
    >>> method.ask()
    {0: WorkOrder('cycle', number=-1)}
    """

    SAVED = (*CycleMethod.SAVED, "_scale_parameter")

    def __init__(self, budget: Budget, settings: SelfTuningSettings | None = None, team_size: int = 1) -> None:
        self.settings = settings or SelfTuningSettings()
        super().__init__(budget, self.settings, team_size)
        self._scale_parameter = torch.empty(0)
        self._updates: UpdateRule | None = None

    def _begin(self, space: Space) -> None:
        super()._begin(space)
        self._scale_parameter = inverse_softplus(torch.full_like(self._u, self.settings.scale))
        self._make_updates()

    def _make_updates(self) -> UpdateRule:
        rule = UpdateSettings(rule=self.settings.optimizer, learning_rate=self.settings.learning_rate)
        rates = [None, self.settings.scale_learning_rate]
        self._updates = UpdateRule(rule, [self._u, self._scale_parameter], rates)
        return self._updates

    def _body(self) -> dict[str, Any]:
        return {
            "level": "response",
            "settings": asdict(self.settings.response),
            "scale": scale_of(self._scale_parameter),
            "tune_scale": self.settings.tune_scale,
        }

    def _move(self, reports: dict[int, Report]) -> HyperStep:
        assert self.space is not None
        assert self._updates is not None
        hypergradient = _mean([r.payload["hypergradient"] for r in reports.values()])
        step = HyperStep(
            number=self._hyper_step,
            training_step=self._training_step,
            seconds=self._seconds,
            training_loss=self._training_loss,
            validation_loss=average(r.metrics["validation_loss"] for r in reports.values()),
            hyperparameters=self.hyperparameters,
            scale=scale_of(self._scale_parameter),
            hypergradient=hypergradient,
        )
        scale_gradient = None
        if self.settings.tune_scale:
            s = self._scale_parameter
            # the trainer differentiates with respect to sigma; s enters through sigma = softplus(s)
            scale_gradient = _mean([r.payload["scale_gradient"] for r in reports.values()]) * torch.sigmoid(s)
            scale_gradient -= self.settings.entropy_weight * entropy_gradient(s)
        self._updates.step([hypergradient, scale_gradient])
        low, high = (inverse_softplus(torch.tensor(bound)) for bound in SCALE_BOUNDS)
        self._scale_parameter.clamp_(low, high)
        self._hyper_step += 1
        return step

    def state_dict(self) -> dict[str, Any]:
        return super().state_dict() | {"updates": self._updates.state_dict() if self._updates else None}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        super().load_state_dict(state)
        if self.space is not None:
            self._make_updates().load_state_dict(state["updates"])


def _mean(tensors: list[Tensor]) -> Tensor:
    return torch.stack(tensors).mean(dim=0)
