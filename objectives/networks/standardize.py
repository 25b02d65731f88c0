"""Images of mean zero and deviation one, by the statistics of the training split."""

from __future__ import annotations

import torch
from torch import nn

from selftune.shapes import Float, Tensor, UInt8


class Standardize(nn.Module):
    """Subtracts the mean of every channel and divides by its deviation; both are buffers, and go where it goes.

    Args:
        mean, deviation: of every channel, for pixels in [0, 1].

    >>> Standardize(torch.tensor([0.5]), torch.tensor([0.25]))(torch.ones(1, 1, 2, 2)).flatten()
    tensor([2., 2., 2., 2.])
    """

    def __init__(self, mean: Float[Tensor, "channels"], deviation: Float[Tensor, "channels"]) -> None:
        super().__init__()
        self.mean: Tensor
        self.deviation: Tensor
        self.register_buffer("mean", mean)
        self.register_buffer("deviation", deviation)

    def forward(
        self, images: Float[Tensor, "batch channels height width"]
    ) -> Float[Tensor, "batch channels height width"]:
        return (images - self.mean[:, None, None]) / self.deviation[:, None, None]


def channel_statistics(
    images: UInt8[Tensor, "images channels height width"],
) -> tuple[Float[Tensor, "channels"], Float[Tensor, "channels"]]:
    """Mean and deviation of every channel over all pixels, in units of 255; a constant channel has deviation 1.

    Counts of the 256 values are enough for both, so that no copy of the images in real numbers is made.

    >>> channel_statistics(torch.tensor([0, 255], dtype=torch.uint8).view(2, 1, 1, 1))
    (tensor([0.5000]), tensor([0.5000]))
    """
    levels = torch.arange(256, dtype=torch.float64) / 255
    counts = torch.stack([channel.flatten().bincount(minlength=256) for channel in images.unbind(dim=1)])
    shares = counts.double() / counts.sum(dim=1, keepdim=True)
    mean = shares @ levels
    deviation = (shares @ levels.square() - mean.square()).clamp_min(0).sqrt()
    return mean.float(), torch.where(deviation > 1e-6, deviation, 1.0).float()
