"""Settings of the penalty method."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from selftune.errors import SettingError
from selftune.methods.cycle_settings import CycleSettings
from selftune.methods.projections import Projection
from selftune.shapes import Float, Tensor


@dataclass(frozen=True)
class PenaltySettings(CycleSettings):
    """Settings of ``Penalty``; symbols are those of "On Penalty Methods for Nonconvex Bilevel Optimization and
    First-Order Stochastic Approximation" (arXiv 2309.01753).

    Args:
        train_steps: training steps of both networks per phase (T); 1 with ``momentum``.
        sigma, smallest_sigma, sigma_decay: weight of the validation loss in the penalized problem. In hyper-step
            k = 0, 1, ... it is ``max(smallest_sigma, sigma (k + 1)^-sigma_decay)``. The hypergradient's bias falls
            with it, the noise and the rounding errors rise with its inverse.
        proximal: rho; a phase's problem gets the term ``|x - x_0|^2 / (2 rho)``, x_0 its start. None for none.
        relaxation: b in (0, 1]; a phase ends at ``(1 - b) x_0 + b x``.
        batches: training batches over which a hypergradient is averaged (M).
        momentum: eta in (0, 1] makes it a single loop: weights move by the network's learning rate times a STORM
            estimate, not by its optimizer, and so is the hypergradient estimated. None is the double loop.
        constraint: set of unconstrained vectors that every hyper-step is projected onto.

    The others are those of ``CycleSettings``; warm-up and validation steps are as there.

    >>> [round(PenaltySettings(sigma=0.8, sigma_decay=1.0).sigma_of(step), 3) for step in (0, 1, 10_000)]
    [0.8, 0.4, 0.001]
    """

    train_steps: int = 10
    sigma: float = 0.01
    smallest_sigma: float = 0.001
    sigma_decay: float = 1 / 3
    proximal: float | None = None
    relaxation: float = 1.0
    batches: int = 1
    momentum: float | None = None
    constraint: Projection | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        for key in ("sigma", "smallest_sigma", "proximal"):
            value = getattr(self, key)
            if value is not None and not (value > 0 and math.isfinite(value)):
                raise SettingError(key, f"must be a positive number, got {value}")
        if self.smallest_sigma > self.sigma:
            raise SettingError(
                "smallest_sigma", f"must be at most sigma = {self.sigma}, got {self.smallest_sigma}"
            )
        if not (self.sigma_decay >= 0 and math.isfinite(self.sigma_decay)):
            raise SettingError("sigma_decay", f"must be a number of at least 0, got {self.sigma_decay}")
        if not 0 < self.relaxation <= 1:
            raise SettingError("relaxation", f"must be above 0 and at most 1, got {self.relaxation}")
        if self.batches < 1:
            raise SettingError("batches", f"must be at least 1, got {self.batches}")
        if self.momentum is not None:
            self._check_single_loop(self.momentum)

    def _check_single_loop(self, momentum: float) -> None:
        if not 0 < momentum <= 1:
            raise SettingError("momentum", f"must be above 0 and at most 1, or null, got {momentum}")
        only: dict[str, float | None] = {
            "train_steps": 1,
            "validation_steps": 1,
            "batches": 1,
            "proximal": None,
            "relaxation": 1.0,
        }
        for key, value in only.items():
            if getattr(self, key) != value:
                shown = "null" if value is None else f"{value:g}"
                raise SettingError(
                    key, f"must be {shown} with momentum, which makes one loop of it; got {getattr(self, key)}"
                )

    def sigma_of(self, hyper_step: int) -> float:
        """The weight of the validation loss in a hyper-step, counted from 0."""
        decayed: float = self.sigma * (hyper_step + 1) ** -self.sigma_decay
        return max(self.smallest_sigma, decayed)

    def project(self, u: Float[Tensor, "n"]) -> Float[Tensor, "n"]:
        """The point of the constraint that is nearest to u."""
        return u if self.constraint is None else self.constraint(u)

    def check_start(self, u: Float[Tensor, "n"]) -> None:
        """Refuses a constraint that is not for vectors like u, or that u is not in.

        Raises:
            SettingError: with the key ``constraint``, or one below it.
        """
        try:
            nearest = self.project(u)
        except SettingError as error:
            raise SettingError(f"constraint.{error.key}", error.message) from error
        if not torch.allclose(nearest, u, rtol=1e-5, atol=1e-6):
            raise SettingError(
                "constraint",
                f"the start {u.tolist()}, in unconstrained coordinates, lies outside; the nearest point inside is"
                f" {nearest.tolist()}",
            )
