"""Translation: images are moved to the side, up or down."""

from __future__ import annotations

import torch
from selftune.objectives.common.magnitude import DELTA_STN
from selftune.objectives.common.start_rules import trivial_augment
from selftune.objectives.common.warps import PADDING, Warp
from selftune.objectives.mathematics.warping import Map, affine_map, warped

from selftune.hyperparameters import Hyperparameter, Interval
from selftune.regularization.regularizer import register
from selftune.regularization.step import Step
from selftune.shapes import Float, Tensor


def translation(
    images: Float[Tensor, "batch channels height width"],
    right: Float[Tensor, "batch"],
    down: Float[Tensor, "batch"],
    padding: str = "zeros",
) -> Float[Tensor, "batch channels height width"]:
    """Moves every image by so many pixels; parts of a pixel are interpolated.

    Args:
        padding: what lies outside of an image: ``zeros``, its ``border``, or its ``reflection``.

    Source: "Delta-STN: Efficient Bilevel Optimization for Neural Networks using Structured Response Jacobians"
    (arXiv 2010.13514), its hyperparameters of convolutional networks.

    >>> translation(torch.tensor([[[[1.0, 2.0, 3.0]]]]), torch.tensor([1.0]), torch.tensor([0.0]), "border")
    tensor([[[[1., 1., 2.]]]])
    """
    return warped(images, _moved(right, down), padding)


def _moved(right: Float[Tensor, "batch"], down: Float[Tensor, "batch"]) -> Map:
    one, zero = torch.ones_like(right), torch.zeros_like(right)
    return affine_map(((one, zero), (zero, one)), (-right, -down))


@register
class Translation(Warp):
    """Moves every image along both sides, by up to ``magnitude`` times their length, in whole pixels.

    Parts of pixels would blur the image. A magnitude below half a pixel moves nothing.
    """

    name = "translation"
    reference = DELTA_STN
    hyperparameters = (
        Hyperparameter("magnitude", Interval(0.0, 0.5), 0.1, smooth=False, start=trivial_augment(10 / 32)),
        PADDING,
    )

    def places(self, step: Step) -> Map:
        height, width = step.inputs.shape[-2:]
        right, down = ((side * self.drawn(step)).round() for side in (width, height))
        return _moved(right, down)
