"""Size, channels, mean and standard deviation of many images, gathered one by one."""

from __future__ import annotations

from typing import Any

import numpy as np
from selftune.objectives.data.pictures import Pixels

Values = np.ndarray[Any, np.dtype[np.float64]]


class ImageStatistics:
    """What is known of images that were looked at; exact, for it counts how often every value occurs.

    Attributes:
        size: height and width of the last image.
        channels: 1 if all were grey, or 3.

    >>> statistics = ImageStatistics()
    >>> statistics.add(np.full((1, 2, 2), 51, dtype=np.uint8))
    >>> statistics.mean, statistics.deviation
    (array([0.2]), array([0.]))
    """

    def __init__(self) -> None:
        self.size = 0, 0
        self.channels = 1
        self._counts = np.zeros((3, 256), dtype=np.int64)

    def add(self, pixels: Pixels, counted: bool = True) -> None:
        """Looks at one image; a grey one counts for all three channels.

        Args:
            pixels: of shape (channels, height, width).
            counted: whether it counts for mean and standard deviation.
        """
        self.size = pixels.shape[1], pixels.shape[2]
        self.channels = max(self.channels, len(pixels))
        if counted:
            self._counts += [np.bincount(channel.ravel(), minlength=256) for channel in pixels]

    @property
    def mean(self) -> Values:
        """Of every channel, from 0 to 1."""
        return self._moment(1)

    @property
    def deviation(self) -> Values:
        """Standard deviation of every channel, from 0 to 1."""
        variance: Values = np.maximum(self._moment(2) - self.mean**2, 0)
        return np.sqrt(variance)

    def _moment(self, order: int) -> Values:
        counts = self._counts[: self.channels]
        values: Values = (np.arange(256) / 255) ** order
        mean: Values = counts @ values / counts.sum(axis=1)
        return mean
