"""Settings of Self-Tuning Networks: how hyperparameters move, and how the response is made and fitted."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Literal

from selftune.errors import SettingError
from selftune.fields import check_fields
from selftune.methods.cycle_settings import CycleSettings


@dataclass(frozen=True)
class Response:
    """How the best-response network is made and fitted.

    Args:
        centered: layers see the perturbation alone, so that the network itself is the plain one (Delta-STN).
        joint: elementary and response weights are fitted together to the perturbed objective (STN).
        linearize: the response is fitted to its first-order effect (Delta-STN).
        rank: directions along which each unit's weights may move; ``"auto"`` gives every layer enough
            for as many independent responses as there are hyperparameters, or coordinates of factored gates.
        gates: ``"full"``: every unit has a gate for each hyperparameter, in memory that grows with units times
            hyperparameters. ``"factored"``: a gate for each hyperparameter of its own, such as the strength of its
            weight decay, and for each of some coordinates of all. ``"auto"``: full up to 256 hyperparameters.
        coordinates: of factored gates, how many stand for a hyperparameter with more than 16 parts.
        optimizer, learning_rate: what fits the response weights. Their gradients scale with the perturbation and
            differ between layers by orders of magnitude, so Adam learns them faster than the network's own SGD.
        output_layer: whether the output layer responds, too.
        without_rule: what happens with weights that no rule covers (bare parameters, parametrised layers, modules
            of other types). ``"weight_space"``: they respond to one draw of the hyperparameters that the whole
            batch shares, and all other weights with them, so that the response is fitted with more noise.
            ``"plain"``: they do not respond. ``"auto"``: in weight space from a tenth of the trained weights on.

    STN is ``Response(centered=False, joint=True, linearize=False)``.
    """

    centered: bool = True
    joint: bool = False
    linearize: bool = True
    rank: int | Literal["auto"] = "auto"
    optimizer: Literal["sgd", "adam", "adamw"] = "adam"
    learning_rate: float = 1e-3
    gates: Literal["auto", "full", "factored"] = "auto"
    coordinates: int = 4
    output_layer: bool = True
    without_rule: Literal["auto", "weight_space", "plain"] = "auto"

    def __post_init__(self) -> None:
        check_fields(self)
        if self.rank != "auto" and self.rank < 1:
            raise SettingError("rank", f"must be 'auto' or at least 1, got {self.rank}")
        if not (self.learning_rate > 0 and math.isfinite(self.learning_rate)):
            raise SettingError("learning_rate", f"must be positive, got {self.learning_rate}")
        if self.coordinates < 1:
            raise SettingError("coordinates", f"must be at least 1, got {self.coordinates}")
        if self.linearize and (self.joint or not self.centered):
            raise SettingError(
                "linearize",
                "needs a centred response fitted separately: set centered to true and joint to false,"
                " or linearize to false",
            )


@dataclass(frozen=True)
class SelfTuningSettings(CycleSettings):
    """Settings of ``SelfTuning``; the defaults are those of Delta-STN (arXiv 2010.13514).

    Args:
        scale: initial standard deviation of the perturbation in unconstrained units, 0.01 to 3.
        tune_scale: whether the scales are tuned, too, against ``entropy_weight`` times the entropy.
        scale_learning_rate: None uses ``learning_rate``.

    The others are those of ``CycleSettings``.
    """

    scale: float = 0.5
    tune_scale: bool = True
    scale_learning_rate: float | None = None
    entropy_weight: float = 1e-3
    response: Response = field(default_factory=Response)

    def __post_init__(self) -> None:
        super().__post_init__()
        for key in ("scale_learning_rate", "entropy_weight"):
            value = getattr(self, key)
            if value is not None and not (value >= 0 and math.isfinite(value)):
                raise SettingError(key, f"must be a number of at least 0, got {value}")
        lowest, highest = SCALE_BOUNDS
        if not lowest <= self.scale <= highest:
            raise SettingError("scale", f"must be between {lowest:g} and {highest:g}, got {self.scale:g}")


SCALE_BOUNDS = (0.01, 3.0)
