"""Hue: colours move around the colour wheel."""

from __future__ import annotations

import torch
from selftune.objectives.common.colours import Colours
from selftune.objectives.common.magnitude import SELF_TUNING_NETWORKS

from selftune.hyperparameters import Hyperparameter, Interval
from selftune.regularization.regularizer import register
from selftune.regularization.step import per_example
from selftune.shapes import Float, Tensor


def hue(
    pixels: Float[Tensor, "batch 3 height width"], turns: float | Float[Tensor, "batch"]
) -> Float[Tensor, "batch 3 height width"]:
    """Adds ``turns`` to the hue of every pixel; saturation and value of the colour (HSV) stay.

    Args:
        pixels: red, green and blue, in [0, 1].
        turns: of the colour wheel, one for all or one per example. A third makes red green; 0 leaves images as
            they are, bit for bit.

    Source: "Self-Tuning Networks: Bilevel Optimization of Hyperparameters using Structured Best-Response
    Functions" (arXiv 1903.03088), its hyperparameters of convolutional networks.

    >>> hue(torch.tensor([1.0, 0.0, 0.0]).view(1, 3, 1, 1), 0.5).flatten()
    tensor([0., 1., 1.])
    """
    turned_by: Tensor = per_example(torch.as_tensor(turns, dtype=pixels.dtype, device=pixels.device), pixels)
    value = pixels.amax(dim=1, keepdim=True)
    chroma = value - pixels.amin(dim=1, keepdim=True)
    sixths = _sixths(pixels, value, chroma) + 6 * turned_by
    # every channel falls from the value by a share of the chroma that depends on its distance on the wheel
    away = torch.cat([sixths + 5, sixths + 3, sixths + 1], dim=1) % 6
    turned = value - chroma * torch.minimum(away, 4 - away).clamp(0, 1)
    return pixels.where(turned_by == 0, turned)


def _sixths(
    pixels: Float[Tensor, "batch 3 height width"],
    value: Float[Tensor, "batch 1 height width"],
    chroma: Float[Tensor, "batch 1 height width"],
) -> Float[Tensor, "batch 1 height width"]:
    """The hue in sixths of the wheel, from red at 0; that of grey is 0."""
    scaled = pixels / chroma.where(chroma > 0, torch.ones_like(chroma))
    red, green, blue = scaled[:, 0:1], scaled[:, 1:2], scaled[:, 2:3]
    is_red, is_green = pixels[:, 0:1] == value, pixels[:, 1:2] == value
    return (green - blue).where(is_red, (blue - red + 2).where(is_green, red - green + 4))


@register
class Hue(Colours):
    """Turns every image's hue by a part of the colour wheel that is uniform in ``[-magnitude, magnitude]``."""

    name = "hue"
    reference = SELF_TUNING_NETWORKS
    hyperparameters = (Hyperparameter("magnitude", Interval(0.0, 0.5), 0.05),)
    of_colours = True

    def change(self, pixels: Tensor, amount: Float[Tensor, "batch"]) -> Tensor:
        return hue(pixels, amount)
