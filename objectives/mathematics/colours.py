"""Grey values of images, and mixtures of two images."""

from __future__ import annotations

from selftune.regularization.step import per_example
from selftune.shapes import Float, Tensor

_LUMA = (0.299, 0.587, 0.114)  # how bright red, green and blue look: ITU-R BT.601


def grey(pixels: Float[Tensor, "batch channels height width"]) -> Float[Tensor, "batch 1 height width"]:
    """The luma of red, green and blue; of images with another number of channels the mean of these.

    >>> import torch
    >>> grey(torch.tensor([0.0, 1.0, 0.0]).view(1, 3, 1, 1))
    tensor([[[[0.5870]]]])
    """
    if pixels.shape[1] != 3:
        return pixels.mean(dim=1, keepdim=True)
    red, green, blue = pixels[:, 0:1], pixels[:, 1:2], pixels[:, 2:3]
    return _LUMA[0] * red + _LUMA[1] * green + _LUMA[2] * blue


def blended(
    pixels: Float[Tensor, "batch channels height width"],
    other: Float[Tensor, "batch _channels _height _width"],
    factor: float | Float[Tensor, "batch"],
) -> Float[Tensor, "batch channels height width"]:
    """``factor * pixels + (1 - factor) * other``, cut off at 0 and 1; a factor above 1 goes away from the other.

    >>> import torch
    >>> blended(torch.ones(1, 1, 1, 1), torch.zeros(1, 1, 1, 1), 0.25)
    tensor([[[[0.2500]]]])
    """
    share = per_example(factor, pixels)
    mixed: Tensor = share * pixels + (1 - share) * other
    return mixed.clamp(0, 1)
