"""Scaling: images become larger or smaller around their centre."""

from __future__ import annotations

import torch
from selftune.objectives.common.magnitude import DELTA_STN
from selftune.objectives.common.warps import PADDING, Warp
from selftune.objectives.mathematics.warping import Map, affine_map, warped

from selftune.hyperparameters import Hyperparameter, Interval
from selftune.regularization.regularizer import register
from selftune.regularization.step import Step
from selftune.shapes import Float, Tensor


def scaling(
    images: Float[Tensor, "batch channels height width"], factor: Float[Tensor, "batch"], padding: str = "zeros"
) -> Float[Tensor, "batch channels height width"]:
    """Enlarges what every image shows by a factor, around its centre; images keep their size.

    Args:
        factor: above 0; below 1 it makes smaller.
        padding: what lies outside of an image: ``zeros``, its ``border``, or its ``reflection``.

    Source: "Delta-STN: Efficient Bilevel Optimization for Neural Networks using Structured Response Jacobians"
    (arXiv 2010.13514), its hyperparameters of convolutional networks.

    >>> scaling(torch.ones(1, 1, 4, 4), torch.tensor([0.5]))[0, 0]
    tensor([[0., 0., 0., 0.],
            [0., 1., 1., 0.],
            [0., 1., 1., 0.],
            [0., 0., 0., 0.]])
    """
    return warped(images, _enlarged(factor), padding)


def _enlarged(factor: Float[Tensor, "batch"]) -> Map:
    zero = torch.zeros_like(factor)
    return affine_map(((1 / factor, zero), (zero, 1 / factor)))


@register
class Scaling(Warp):
    """Enlarges every image by a factor that is uniform in ``[1 - magnitude, 1 + magnitude]``."""

    name = "scaling"
    reference = DELTA_STN
    hyperparameters = (Hyperparameter("magnitude", Interval(0.0, 0.5), 0.1), PADDING)

    def places(self, step: Step) -> Map:
        return _enlarged(1 + self.drawn(step))
