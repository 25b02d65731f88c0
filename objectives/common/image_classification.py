"""Classification of images that are kept as bytes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from selftune.objectives.networks.standardize import Standardize, channel_statistics
from torch import nn

from selftune.lower_level.classification import Classification
from selftune.lower_level.optimization import Optimization
from selftune.regularization.step import Step
from selftune.shapes import Int, Tensor, UInt8

Images = tuple[UInt8[Tensor, "images channels height width"], Int[Tensor, "images"]]


class ImageClassification(Classification):
    """A classifier of images, which lie on the device as bytes, a quarter of what real numbers would take.

    ``inputs`` of a batch are pixels in [0, 1], made when the batch is drawn: that is what regularizers see and
    change. The network standardises them by its first layer, with mean and deviation of every channel over the
    training split, so that the file of a trained network holds all that it takes to use it. ``pixel_range`` says
    that black is 0 and white is 1.

    Args:
        build: makes a freshly initialised network from its first layer, which takes pixels in [0, 1].
        train, validation, test: pairs of images and class numbers.
        optimization, validation_batch_size: see ``Classification``.

    Raises:
        SettingError: as ``Classification``.

    >>> images = torch.randint(256, (16, 3, 4, 4), dtype=torch.uint8), torch.arange(16) % 2
    >>> build = lambda first: nn.Sequential(first, nn.Flatten(), nn.Linear(48, 2))
    >>> objective = ImageClassification(build, images, images, images, Optimization(batch_size=8))
    >>> objective.splits()["train"]["inputs"].dtype, objective.inputs(objective.splits()["train"]).dtype
    (torch.uint8, torch.float32)
    """

    provides = Classification.provides | {"pixel_range"}

    def __init__(
        self,
        build: Callable[[nn.Module], nn.Module],
        train: Images,
        validation: Images,
        test: Images,
        optimization: Optimization | None = None,
        validation_batch_size: int | None = None,
    ) -> None:
        self._of_first_layer = build
        self._statistics = channel_statistics(train[0])
        super().__init__(self._standardized, train, validation, test, optimization, validation_batch_size)

    def _standardized(self) -> nn.Module:
        return self._of_first_layer(Standardize(*(one.clone() for one in self._statistics)))

    def quantity(self, name: str, step: Step) -> Any:
        if name == "pixel_range":
            return torch.linspace(0.0, 1.0, 2, device=step.inputs.device)
        return super().quantity(name, step)

    def inputs(self, batch: Any) -> Any:
        """Pixels in [0, 1], of the network's type."""
        return batch["inputs"].to(self.real_type) / 255
