"""Rotation: images are turned around their centre."""

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


def rotation(
    images: Float[Tensor, "batch channels height width"], degrees: Float[Tensor, "batch"], padding: str = "zeros"
) -> Float[Tensor, "batch channels height width"]:
    """Turns every image counterclockwise around its centre, with bilinear interpolation.

    Args:
        padding: what lies outside of an image: ``zeros``, its ``border``, or its ``reflection``.

    Source: "Delta-STN: Efficient Bilevel Optimization for Neural Networks using Structured Response Jacobians"
    (arXiv 2010.13514), its hyperparameters of convolutional networks.

    >>> rotation(torch.tensor([[[[1.0, 2.0], [3.0, 4.0]]]]), torch.tensor([90.0])).round(decimals=4)
    tensor([[[[2., 4.],
              [1., 3.]]]])
    """
    return warped(images, _turned(degrees), padding)


def _turned(degrees: Float[Tensor, "batch"]) -> Map:
    angle = torch.deg2rad(degrees)
    cos, sin = angle.cos(), angle.sin()
    return affine_map(((cos, -sin), (sin, cos)))


@register
class Rotation(Warp):
    """Turns every image around its centre by an angle that is uniform in ``[-magnitude, magnitude]`` degrees."""

    name = "rotation"
    reference = DELTA_STN
    hyperparameters = (
        Hyperparameter("magnitude", Interval(0.0, 180.0, sweep=(0.0, 45.0)), 10.0, start=trivial_augment(30.0)),
        PADDING,
    )

    def places(self, step: Step) -> Map:
        return _turned(self.drawn(step))
