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
        every: training steps from one fit to the next.
        batch_parts: a fit computes as much as on one of so many parts of the batch, each in its turn.
        paired: a fit takes half of the examples, each with a perturbation and its opposite and with the same
            random numbers (antithetic variates), so that what the loss's slope adds to the gradient cancels: it is
            noise, of which there is more the fewer fits there are.
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
    every: int = 1
    batch_parts: int = 1
    paired: bool = False
    without_rule: Literal["auto", "weight_space", "plain"] = "auto"

    def __post_init__(self) -> None:
        check_fields(self)
        if self.rank != "auto" and self.rank < 1:
            raise SettingError("rank", f"must be 'auto' or at least 1, got {self.rank}")
        if not (self.learning_rate > 0 and math.isfinite(self.learning_rate)):
            raise SettingError("learning_rate", f"must be positive, got {self.learning_rate}")
        if self.coordinates < 1:
            raise SettingError("coordinates", f"must be at least 1, got {self.coordinates}")
        for key in ("every", "batch_parts"):
            if getattr(self, key) < 1:
                raise SettingError(key, f"must be at least 1, got {getattr(self, key)}")
            if self.joint and getattr(self, key) > 1:
                raise SettingError(key, "must be 1 where response and network are fitted jointly; leave it out")
        if self.joint and self.paired:
            raise SettingError("paired", "needs a response that is fitted separately; set joint to false")
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
        scale_every: hyper-steps from one that moves the scales, too, to the next, which moves them further.
        validation_parts: a hypergradient sees one of so many parts of a validation batch, each in its turn;
            measures are means over as many as make a whole one.
        cost: what a tuned training step may cost, in training steps with nothing tuned, above 1: 2.0 is twice the
            time. From what it measures while it trains, the method chooses ``response.every``,
            ``response.batch_parts`` and ``validation_parts``; ``scale_every`` is then 4, ``response.paired`` true.
            Two runs may choose differently, so that they are equal only up to noise. None does all of the work.

    The others are those of ``CycleSettings``.
    """

    scale: float = 0.5
    tune_scale: bool = True
    scale_learning_rate: float | None = None
    scale_every: int = 1
    entropy_weight: float = 1e-3
    validation_parts: int = 1
    cost: float | None = None
    response: Response = field(default_factory=Response)

    def __post_init__(self) -> None:
        super().__post_init__()
        for key in ("scale_learning_rate", "entropy_weight"):
            value = getattr(self, key)
            if value is not None and not (value >= 0 and math.isfinite(value)):
                raise SettingError(key, f"must be a number of at least 0, got {value}")
        for key in ("scale_every", "validation_parts"):
            if getattr(self, key) < 1:
                raise SettingError(key, f"must be at least 1, got {getattr(self, key)}")
        if self.cost is not None:
            self._check_cost()
        lowest, highest = SCALE_BOUNDS
        if not lowest <= self.scale <= highest:
            raise SettingError("scale", f"must be between {lowest:g} and {highest:g}, got {self.scale:g}")

    def _check_cost(self) -> None:
        assert self.cost is not None
        if not (self.cost > 1 and math.isfinite(self.cost)):
            raise SettingError("cost", f"must be a number above 1, what training itself costs, got {self.cost:g}")
        if self.response.joint:
            raise SettingError("cost", "needs a response that is fitted separately; set response.joint to false")
        chosen: dict[str, int] = {
            "scale_every": self.scale_every,
            "validation_parts": self.validation_parts,
            "response.every": self.response.every,
            "response.batch_parts": self.response.batch_parts,
        }
        for key, value in chosen.items():
            if value != 1:
                raise SettingError(key, "is chosen by the method where cost is given; leave out one of both")

    @property
    def scales_every(self) -> int:
        """``scale_every``, also where ``cost`` decides."""
        return self.scale_every if self.cost is None else _SCALE_EVERY


SCALE_BOUNDS = (0.01, 3.0)
_SCALE_EVERY = 4  # a pass for the scales takes two to three times as long as one without
