"""VGG with batch normalization for images of 32 x 32."""

from __future__ import annotations

from torch import Tensor, nn

LAYERS: dict[int, tuple[int | str, ...]] = {
    11: (1, "pool", 2, "pool", 4, 4, "pool", 8, 8, "pool", 8, 8, "pool"),
    16: (1, 1, "pool", 2, 2, "pool", 4, 4, 4, "pool", 8, 8, 8, "pool", 8, 8, 8, "pool"),
}
"""Channels of the convolutions, in widths, by the number of layers with weights that the published network has."""


class VGG(nn.Module):
    """Logits of images, (batch, 3, 32, 32) to (batch, classes), with one linear layer as classifier.

    Args:
        depth: 11 or 16.
        width: channels of the first convolution; 64 as published.

    Source: "Very Deep Convolutional Networks for Large-Scale Image Recognition" (arXiv 1409.1556).
    """

    def __init__(self, classes: int = 10, depth: int = 16, width: int = 64) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        entering = 3
        for entry in LAYERS[depth]:
            if isinstance(entry, str):
                layers.append(nn.MaxPool2d(2))
                continue
            channels = width * entry
            layers += [
                nn.Conv2d(entering, channels, 3, padding=1),
                nn.BatchNorm2d(channels),
                nn.ReLU(inplace=True),
            ]
            entering = channels
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Linear(entering, classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(self.features(x).flatten(1))
