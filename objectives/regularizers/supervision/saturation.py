"""Saturation: colours become paler or stronger."""

from __future__ import annotations

from selftune.objectives.common.colours import Colours
from selftune.objectives.common.magnitude import SELF_TUNING_NETWORKS
from selftune.objectives.common.start_rules import trivial_augment
from selftune.objectives.mathematics.colours import blended, grey

from selftune.hyperparameters import Hyperparameter, Unit
from selftune.regularization.regularizer import register
from selftune.shapes import Float, Tensor


def saturation(
    pixels: Float[Tensor, "batch 3 height width"], factor: float | Float[Tensor, "batch"]
) -> Float[Tensor, "batch 3 height width"]:
    """``factor * pixels + (1 - factor) * grey``, cut off at 0 and 1, with the luma of every pixel as its grey.

    Args:
        pixels: red, green and blue, in [0, 1].
        factor: at least 0: one for all, or one per example. 0 gives grey images, 1 the same ones.

    Source: "Self-Tuning Networks: Bilevel Optimization of Hyperparameters using Structured Best-Response
    Functions" (arXiv 1903.03088), its hyperparameters of convolutional networks.

    >>> import torch
    >>> saturation(torch.tensor([1.0, 0.0, 0.0]).view(1, 3, 1, 1), 0.0).flatten()
    tensor([0.2990, 0.2990, 0.2990])
    """
    return blended(pixels, grey(pixels), factor)


@register
class Saturation(Colours):
    """Changes the saturation of every image by a factor that is uniform in ``[1 - magnitude, 1 + magnitude]``."""

    name = "saturation"
    reference = SELF_TUNING_NETWORKS
    hyperparameters = (Hyperparameter("magnitude", Unit(), 0.2, start=trivial_augment(0.9)),)
    of_colours = True

    def change(self, pixels: Tensor, amount: Float[Tensor, "batch"]) -> Tensor:
        return saturation(pixels, 1 + amount)
