"""Rotated digits: domains are angles, and those that judge are not among those that train."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from selftune.objectives.data.digit_images import PIXELS, load_digit_splits
from selftune.objectives.networks.perceptron import check_hidden, perceptron
from torch import nn

from selftune.errors import SettingError
from selftune.lower_level.classification import Classification
from selftune.lower_level.objective import tasks
from selftune.lower_level.optimization import Optimization
from selftune.shapes import Float, Tensor


@dataclass
class RotatedDigits(Classification):
    """A classifier of digits that were rotated: domain generalisation.

    The training images are dealt out over ``train_angles``, the domains. Validation and test images stand at
    angles of their own, so that the upper level rewards what carries over to domains that were never seen.

    Args:
        train_angles: degrees of the training domains, at least two.
        validation_angle, test_angle: degrees of the domains that judge.
        hidden: units of every hidden layer.
        train_examples, validation_examples: sizes of the two splits; the rest of the 1797 is the test split.
        batch_size, optimizer, learning_rate, momentum: see ``Optimization``.
        validation_batch_size: examples per hypergradient; None uses the whole validation split.
        balanced: whether every batch holds as many images of each training domain.
        split_seed: decides which images go into which split.

    >>> "domains" in RotatedDigits().provides
    True
    """

    train_angles: tuple[float, ...] = (0.0, 15.0, 30.0)
    validation_angle: float = 45.0
    test_angle: float = 60.0
    hidden: tuple[int, ...] = (64,)
    train_examples: int = 600
    validation_examples: int = 500
    batch_size: int = 96
    optimizer: str = "sgd"
    learning_rate: float = 0.03
    momentum: float | None = None
    validation_batch_size: int | None = None
    balanced: bool = True
    split_seed: int = 0

    def __post_init__(self) -> None:
        check_hidden(self.hidden)
        if len(self.train_angles) < 2:
            raise SettingError("train_angles", f"needs at least two domains, got {list(self.train_angles)}")
        splits = load_digit_splits(self.train_examples, self.validation_examples, self.split_seed)
        dealt = torch.arange(self.train_examples) % len(self.train_angles)
        angles = torch.tensor([*self.train_angles, self.validation_angle, self.test_angle])
        second, third = (torch.full((len(splits[i][1]),), len(self.train_angles) + i - 1) for i in (1, 2))
        domains = (dealt, second, third)
        train, validation, test = (
            (_rotated(inputs.view(-1, PIXELS, PIXELS), angles[domain]).flatten(1), labels)
            for (inputs, labels), domain in zip(splits, domains, strict=True)
        )
        optimization = Optimization(self.batch_size, self.optimizer, self.learning_rate, self.momentum)
        extra = {"domains": domains}
        super().__init__(
            self._network,
            train,
            validation,
            test,
            optimization,
            self.validation_batch_size,
            extra,
            balanced_by="domains" if self.balanced else None,
        )

    def _network(self) -> nn.Module:
        return perceptron(PIXELS * PIXELS, self.hidden, 10)


def _rotation(degrees: Float[Tensor, "batch"]) -> Float[Tensor, "batch 2 3"]:
    radians = degrees * (math.pi / 180)
    cos, sin, zero = torch.cos(radians), torch.sin(radians), torch.zeros_like(radians)
    return torch.stack([torch.stack([cos, -sin, zero], dim=-1), torch.stack([sin, cos, zero], dim=-1)], dim=-2)


def _rotated(
    images: Float[Tensor, "batch side side"], degrees: Float[Tensor, "batch"]
) -> Float[Tensor, "batch side side"]:
    """Every image turned about its centre by its own angle; what comes from outside is the border's colour.

    >>> image = torch.arange(9.0).view(1, 3, 3)
    >>> bool(torch.allclose(_rotated(image, torch.tensor([90.0])), image.rot90(1, (1, 2)), atol=1e-5))
    True
    """
    shape = [len(images), 1, *images.shape[1:]]
    grid = F.affine_grid(_rotation(degrees).to(images), shape, align_corners=True)
    turned = F.grid_sample(images.view(shape), grid, padding_mode="border", align_corners=True)
    return turned.view_as(images)


tasks.register("rotated_digits", RotatedDigits)
