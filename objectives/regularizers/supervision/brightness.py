"""Brightness: images become brighter or darker."""

from __future__ import annotations

from selftune.objectives.common.colours import Colours
from selftune.objectives.common.magnitude import SELF_TUNING_NETWORKS
from selftune.objectives.common.start_rules import trivial_augment

from selftune.hyperparameters import Hyperparameter, Unit
from selftune.regularization.regularizer import register
from selftune.regularization.step import per_example
from selftune.shapes import Float, Tensor


def brightness(
    pixels: Float[Tensor, "batch channels height width"], factor: float | Float[Tensor, "batch"]
) -> Float[Tensor, "batch channels height width"]:
    """``factor * pixels``, cut off at 1.

    Args:
        pixels: in [0, 1].
        factor: at least 0: one for all, or one per example. 0 gives black images, 1 the same ones.

    Source: "Self-Tuning Networks: Bilevel Optimization of Hyperparameters using Structured Best-Response
    Functions" (arXiv 1903.03088), its hyperparameters of convolutional networks.

    >>> import torch
    >>> brightness(torch.full((1, 1, 1, 2), 0.5), 1.5)
    tensor([[[[0.7500, 0.7500]]]])
    """
    changed: Tensor = per_example(factor, pixels) * pixels
    return changed.clamp(0, 1)


@register
class Brightness(Colours):
    """Multiplies every image by a factor that is uniform in ``[1 - magnitude, 1 + magnitude]``."""

    name = "brightness"
    reference = SELF_TUNING_NETWORKS
    hyperparameters = (Hyperparameter("magnitude", Unit(), 0.2, start=trivial_augment(0.9)),)

    def change(self, pixels: Tensor, amount: Float[Tensor, "batch"]) -> Tensor:
        return brightness(pixels, 1 + amount)
