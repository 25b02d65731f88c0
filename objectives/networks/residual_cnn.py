"""A small convolutional network with residual branches and batch normalization, for small images."""

from __future__ import annotations

from collections import OrderedDict

from torch import nn

from selftune.shapes import Float, Tensor


class Residual(nn.Module):
    """Adds a ``branch`` of two convolutions to what comes in; the branch can be skipped."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.branch = nn.Sequential(
            OrderedDict(
                conv1=nn.Conv2d(channels, channels, 3, padding=1, bias=False),
                norm1=nn.BatchNorm2d(channels),
                relu=nn.ReLU(),
                conv2=nn.Conv2d(channels, channels, 3, padding=1, bias=False),
                norm2=nn.BatchNorm2d(channels),
            )
        )
        self.relu = nn.ReLU()

    def forward(
        self, x: Float[Tensor, "batch channels height width"]
    ) -> Float[Tensor, "batch channels height width"]:
        out: Tensor = self.relu(x + self.branch(x))
        return out


class ResidualCNN(nn.Sequential):
    """Logits of images: a convolution ``first``, residual blocks ``block1``, ``block2``..., and ``output``.

    Between blocks the maximum of every 2 x 2 pixels is taken; after the last one, the mean of all.

    Args:
        entering: channels of the images.
        channels: of all convolutions.
        blocks: residual blocks, at least 1; every one but the last halves height and width.
        before: what images pass first.

    >>> import torch
    >>> ResidualCNN(classes=10)(torch.zeros(2, 1, 8, 8)).shape
    torch.Size([2, 10])
    """

    def __init__(
        self,
        classes: int,
        entering: int = 1,
        channels: int = 16,
        blocks: int = 2,
        before: nn.Module | None = None,
    ) -> None:
        layers: OrderedDict[str, nn.Module] = OrderedDict()
        layers["before"] = before or nn.Identity()
        layers["first"] = nn.Conv2d(entering, channels, 3, padding=1, bias=False)
        layers["norm"] = nn.BatchNorm2d(channels)
        layers["relu"] = nn.ReLU()
        for number in range(1, blocks + 1):
            if number > 1:
                layers[f"pool{number - 1}"] = nn.MaxPool2d(2)
            layers[f"block{number}"] = Residual(channels)
        layers["mean"] = nn.AdaptiveAvgPool2d(1)
        layers["flatten"] = nn.Flatten()
        layers["output"] = nn.Linear(channels, classes)
        super().__init__(layers)
