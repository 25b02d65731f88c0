"""A small convolutional network for signals."""

from __future__ import annotations

from collections import OrderedDict

from torch import nn

LAYERS = 3
"""Convolutions, each of which halves the length."""


class SignalCNN(nn.Sequential):
    """Logits of signals, (batch, 1, length) to (batch, classes): layers ``conv1`` to ``conv3`` and ``output``.

    Every convolution has stride 2 and is followed by ReLU.

    Args:
        channels: of every convolution.

    Source: "Scaling Down Deep Learning with MNIST-1D" (arXiv 2011.14439), its convolutional network with 25
    channels.

    >>> import torch
    >>> SignalCNN(classes=10, length=40)(torch.zeros(2, 1, 40)).shape
    torch.Size([2, 10])
    """

    def __init__(self, classes: int, length: int, channels: int = 25) -> None:
        layers: OrderedDict[str, nn.Module] = OrderedDict()
        entering = 1
        for number in range(1, LAYERS + 1):
            layers[f"conv{number}"] = nn.Conv1d(entering, channels, 5, stride=2, padding=2)
            layers[f"relu{number}"] = nn.ReLU()
            entering, length = channels, (length + 1) // 2
        layers["flatten"] = nn.Flatten()
        layers["output"] = nn.Linear(channels * length, classes)
        super().__init__(layers)
