"""A small convolutional network for images of 32 x 32 or so."""

from __future__ import annotations

from collections import OrderedDict

from torch import nn

LAYERS = 3
"""Convolutions, each of which is followed by a pooling layer that halves the image."""


class SmallCNN(nn.Sequential):
    """Logits of images: layers ``conv1`` to ``conv3`` and ``output``.

    Every convolution has twice the channels of the one before it, and is followed by batch normalisation, ReLU
    and the maximum of every 2 x 2 pixels; after the last one the mean of all pixels is taken.

    Args:
        entering: channels of the images.
        width: channels of the first convolution.
        before: what images pass first.

    >>> import torch
    >>> SmallCNN(classes=10)(torch.zeros(2, 3, 32, 32)).shape
    torch.Size([2, 10])
    """

    def __init__(self, classes: int, width: int = 16, entering: int = 3, before: nn.Module | None = None) -> None:
        layers: OrderedDict[str, nn.Module] = OrderedDict()
        layers["before"] = before or nn.Identity()
        for number in range(1, LAYERS + 1):
            layers[f"conv{number}"] = nn.Conv2d(entering, width, 3, padding=1, bias=False)
            layers[f"norm{number}"] = nn.BatchNorm2d(width)
            layers[f"relu{number}"] = nn.ReLU()
            layers[f"pool{number}"] = nn.MaxPool2d(2)
            entering, width = width, 2 * width
        layers["mean"] = nn.AdaptiveAvgPool2d(1)
        layers["flatten"] = nn.Flatten()
        layers["output"] = nn.Linear(entering, classes)
        super().__init__(layers)
