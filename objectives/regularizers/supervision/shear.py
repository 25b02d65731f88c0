"""Shear: the rows of images are moved against each other."""

from __future__ import annotations

import math

import torch
from selftune.objectives.common.magnitude import DELTA_STN
from selftune.objectives.common.start_rules import trivial_augment
from selftune.objectives.common.warps import PADDING, Warp
from selftune.objectives.mathematics.warping import Map, affine_map, warped

from selftune.hyperparameters import Hyperparameter, Interval
from selftune.regularization.regularizer import register
from selftune.regularization.step import Step
from selftune.shapes import Float, Tensor


def shear(
    images: Float[Tensor, "batch channels height width"], degrees: Float[Tensor, "batch"], padding: str = "zeros"
) -> Float[Tensor, "batch channels height width"]:
    """Leans every image to the left by an angle: rows move along themselves, the middle one not at all.

    Args:
        degrees: between -90 and 90; negative ones lean to the right.
        padding: what lies outside of an image: ``zeros``, its ``border``, or its ``reflection``.

    Source: "Delta-STN: Efficient Bilevel Optimization for Neural Networks using Structured Response Jacobians"
    (arXiv 2010.13514), its hyperparameters of convolutional networks.

    >>> line = torch.zeros(1, 1, 3, 3)
    >>> line[..., 1] = 1
    >>> shear(line, torch.tensor([45.0])).round(decimals=4)
    tensor([[[[1., 0., 0.],
              [0., 1., 0.],
              [0., 0., 1.]]]])
    """
    return warped(images, _leaning(degrees), padding)


def _leaning(degrees: Float[Tensor, "batch"]) -> Map:
    one, zero = torch.ones_like(degrees), torch.zeros_like(degrees)
    return affine_map(((one, -torch.deg2rad(degrees).tan()), (zero, one)))


@register
class Shear(Warp):
    """Leans every image by an angle that is uniform in ``[-magnitude, magnitude]`` degrees."""

    name = "shear"
    reference = DELTA_STN
    hyperparameters = (
        Hyperparameter(
            "magnitude", Interval(0.0, 45.0), 10.0, start=trivial_augment(math.degrees(math.atan(0.3)))
        ),
        PADDING,
    )

    def places(self, step: Step) -> Map:
        return _leaning(self.drawn(step))
