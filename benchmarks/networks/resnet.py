"""ResNet-18 for images of 32 x 32, with a stem of one 3 x 3 convolution."""

from __future__ import annotations

from torch import Tensor, nn


class BasicBlock(nn.Module):
    """Two convolutions beside the identity, or beside a projection where the shape changes."""

    def __init__(self, entering: int, channels: int, stride: int = 1) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(entering, channels, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.relu = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.downsample: nn.Module | None = None
        if stride != 1 or entering != channels:
            self.downsample = nn.Sequential(
                nn.Conv2d(entering, channels, 1, stride, bias=False), nn.BatchNorm2d(channels)
            )

    def forward(self, x: Tensor) -> Tensor:
        identity = x if self.downsample is None else self.downsample(x)
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        out += identity
        return self.relu(out)


class ResNet18(nn.Module):
    """Logits of images, (batch, 3, height, width) to (batch, classes).

    Args:
        width: channels of the first of the four stages, each of which doubles them; 64 as published.
        blocks: blocks of a stage; 2 as published.

    Source: "Deep Residual Learning for Image Recognition" (arXiv 1512.03385).
    """

    def __init__(self, classes: int = 10, width: int = 64, blocks: int = 2) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, width, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.relu = nn.ReLU(inplace=True)
        stages, entering = [], width
        for stage in range(4):
            channels = width * 2**stage
            for block in range(blocks):
                stages.append(BasicBlock(entering, channels, stride=2 if stage and not block else 1))
                entering = channels
        self.layers = nn.Sequential(*stages)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(entering, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.relu(self.bn1(self.conv1(x)))
        return self.fc(self.avgpool(self.layers(x)).flatten(1))
