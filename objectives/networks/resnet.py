"""ResNet-18 for images of 32 x 32, with a stem of one 3 x 3 convolution."""

from __future__ import annotations

from torch import nn

from selftune.shapes import Float, Tensor


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

    def forward(
        self, x: Float[Tensor, "batch entering height width"]
    ) -> Float[Tensor, "batch channels rows columns"]:
        identity = x if self.downsample is None else self.downsample(x)
        out: Tensor = self.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        out += identity
        out = self.relu(out)
        return out


class ResNet18(nn.Module):
    """Logits of images, (batch, entering, height, width) to (batch, classes).

    Args:
        entering: channels of the images.
        before: what images pass first.
        width: channels of the first of the four stages, each of which doubles them; 64 as published.
        blocks: blocks of a stage; 2 as published.

    Source: "Deep Residual Learning for Image Recognition" (arXiv 1512.03385).

    >>> import torch
    >>> ResNet18(classes=10, width=4)(torch.zeros(2, 3, 32, 32)).shape
    torch.Size([2, 10])
    """

    def __init__(
        self,
        classes: int = 10,
        width: int = 64,
        blocks: int = 2,
        entering: int = 3,
        before: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.before = before or nn.Identity()
        self.conv1 = nn.Conv2d(entering, width, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.relu = nn.ReLU(inplace=True)
        stages, channels_before = [], width
        for stage in range(4):
            channels = width * 2**stage
            for block in range(blocks):
                stages.append(BasicBlock(channels_before, channels, stride=2 if stage and not block else 1))
                channels_before = channels
        self.layers = nn.Sequential(*stages)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(channels_before, classes)

    def forward(self, x: Float[Tensor, "batch entering height width"]) -> Float[Tensor, "batch classes"]:
        x = self.relu(self.bn1(self.conv1(self.before(x))))
        logits: Tensor = self.fc(self.avgpool(self.layers(x)).flatten(1))
        return logits
