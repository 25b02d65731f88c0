"""Self-Tuning Networks as a state machine: train a cycle, take a hypergradient, move the hyperparameters."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

import torch

from selftune.errors import SettingError
from selftune.hyperparameters import Space, entropy_gradient, inverse_softplus, scale_of
from selftune.methods.budget import Budget
from selftune.methods.cycles import Cycle, CycleMethod
from selftune.methods.method import HyperStep
from selftune.methods.reports import ResponseHypergradient, Trained
from selftune.methods.self_tuning_settings import SCALE_BOUNDS, SelfTuningSettings
from selftune.methods.work_orders import TrainWithResponse
from selftune.shapes import Float, Tensor


class SelfTuning(CycleMethod):
    """Self-Tuning Networks (arXiv 1903.03088) and Delta-STN (arXiv 2010.13514) for a team of trainers.

    Every member trains its own network for ``train_steps`` and reports the hypergradient of its validation
    loss; the mean over the team, or what another aggregator makes of it, moves the hyperparameters that all share.

    Args:
        budget: when to stop.
        settings: see ``SelfTuningSettings``.
        team_size: number of trainers; nothing is asked before all have joined.

    >>> from selftune.hyperparameters import Hyperparameter, Positive
    >>> method = SelfTuning(Budget(steps=10), SelfTuningSettings(warmup_steps=0))
    >>> method.join(0, Space([Hyperparameter("weight_decay.strength", Positive(), 1e-3, tuned=True)]))
    >>> method.ask()
    {0: TrainWithResponse(number=-1)}
    """

    SAVED = (*CycleMethod.SAVED, "_scale_parameter")

    def __init__(self, budget: Budget, settings: SelfTuningSettings | None = None, team_size: int = 1) -> None:
        self.settings = settings or SelfTuningSettings()
        super().__init__(budget, self.settings, team_size)
        self._scale_parameter = torch.empty(0)

    def mistakes(self, space: Space) -> Iterator[SettingError]:
        yield from super().mistakes(space)
        for hyperparameter in space.tuned:
            if not hyperparameter.responds:
                yield SettingError(
                    f"regularizers.{hyperparameter.name}",
                    "cannot be tuned by self_tuning, because it acts on gradients or whole steps, to which a"
                    " network learns no response; give it a fixed value",
                )
        rank = self.settings.response.rank
        if len(space) and rank != "auto" and rank > len(space):
            yield SettingError(
                "method.response.rank",
                f"must be 'auto' or at most {len(space)}, the number of tuned hyperparameters, got {rank}",
            )

    def _begin(self, space: Space) -> None:
        super()._begin(space)
        self._scale_parameter = inverse_softplus(torch.full_like(self._u, self.settings.scale))

    def _moving(self) -> dict[str, tuple[Tensor, float | None]]:
        settings, rate = self.settings, self.settings.scale_learning_rate
        if settings.scales_every > 1:  # rarer moves go further
            rate = (settings.learning_rate if rate is None else rate) * settings.scales_every
        return super()._moving() | {"scale": (self._scale_parameter, rate)}

    def _train(self, member: int, cycle: Cycle) -> TrainWithResponse:
        return TrainWithResponse(
            **cycle,
            estimator="self_tuning",
            settings=asdict(self.settings.response) | self._work,
            scale=scale_of(self._scale_parameter),
            tune_scale=self._moves_scales,
        )

    @property
    def _work(self) -> dict[str, Any]:
        """How much work hypergradients may be."""
        settings = self.settings
        return {
            "cost": settings.cost,
            "cycle": settings.train_steps / settings.validation_steps,
            "scale_every": settings.scales_every if settings.tune_scale else 1,
            "validation_parts": settings.validation_parts,
        }

    @property
    def _moves_scales(self) -> bool:
        """Whether the next hyper-step moves the scales, too."""
        return self.settings.tune_scale and self._hyper_step % self.settings.scales_every == 0

    def _votes(self, reports: dict[int, Trained]) -> dict[int, list[Float[Tensor, "rows _"]]]:
        votes = super()._votes(reports)
        found = {member: report.hypergradient for member, report in reports.items()}
        gradients = {m: one.scale_gradient for m, one in found.items() if isinstance(one, ResponseHypergradient)}
        if all(gradient is not None for gradient in gradients.values()):  # late reports may be without
            for member, gradient in gradients.items():
                assert gradient is not None
                votes[self._group(member)].append(gradient[None])
        return votes

    def _move(self, reports: dict[int, Trained], together: list[Tensor]) -> HyperStep:
        hypergradient = together[0]
        step = self._row(list(reports.values()), hypergradient, scale=scale_of(self._scale_parameter))
        scale_gradient = None
        if len(together) > 1:
            s = self._scale_parameter
            # the trainer differentiates with respect to sigma; s enters through sigma = softplus(s)
            scale_gradient = together[1] * torch.sigmoid(s)
            scale_gradient -= self.settings.entropy_weight * entropy_gradient(s)
        self._update([hypergradient, scale_gradient])
        low, high = (inverse_softplus(torch.tensor(bound)) for bound in SCALE_BOUNDS)
        self._scale_parameter.clamp_(low, high)
        return step
