"""Contrast: images come closer to their mean grey, or go away from it."""

from __future__ import annotations

from selftune.objectives.common.colours import Colours
from selftune.objectives.common.magnitude import SELF_TUNING_NETWORKS
from selftune.objectives.common.start_rules import trivial_augment
from selftune.objectives.mathematics.colours import blended, grey

from selftune.hyperparameters import Hyperparameter, Unit
from selftune.regularization.regularizer import register
from selftune.shapes import Float, Tensor


def contrast(
    pixels: Float[Tensor, "batch channels height width"], factor: float | Float[Tensor, "batch"]
) -> Float[Tensor, "batch channels height width"]:
    """``factor * pixels + (1 - factor) * mean``, cut off at 0 and 1, with the mean of the image's grey values.

    Args:
        pixels: in [0, 1]. Three channels are red, green and blue, and grey is their luma; of other images it is
            the mean of the channels.
        factor: at least 0: one for all, or one per example. 0 gives even grey, 1 the same images.

    Source: "Self-Tuning Networks: Bilevel Optimization of Hyperparameters using Structured Best-Response
    Functions" (arXiv 1903.03088), its hyperparameters of convolutional networks.

    >>> import torch
    >>> contrast(torch.tensor([0.25, 0.75]).view(1, 1, 1, 2), 0.5)
    tensor([[[[0.3750, 0.6250]]]])
    """
    return blended(pixels, grey(pixels).mean(dim=(-2, -1), keepdim=True), factor)


@register
class Contrast(Colours):
    """Changes the contrast of every image by a factor that is uniform in ``[1 - magnitude, 1 + magnitude]``."""

    name = "contrast"
    reference = SELF_TUNING_NETWORKS
    hyperparameters = (Hyperparameter("magnitude", Unit(), 0.2, start=trivial_augment(0.9)),)

    def change(self, pixels: Tensor, amount: Float[Tensor, "batch"]) -> Tensor:
        return contrast(pixels, 1 + amount)
