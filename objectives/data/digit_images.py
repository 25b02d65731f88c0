"""scikit-learn's handwritten digits as tensors: what the tasks on digits share."""

from __future__ import annotations

import torch

from selftune.errors import SettingError
from selftune.shapes import Float, Int, Tensor, UInt8

EXAMPLES = 1797
PIXELS = 8

Split = tuple[Float[Tensor, "examples 64"], Int[Tensor, "examples"]]
Splits = tuple[Split, Split, Split]

Images = tuple[UInt8[Tensor, "examples 1 8 8"], Int[Tensor, "examples"]]


def load_digit_splits(train: int, validation: int, seed: int) -> Splits:
    """Train, validation and test split; pixels are standardised by mean and deviation of the first.

    Args:
        train, validation: their sizes; the rest of the 1797 is the test split.
        seed: decides which images go into which split.

    Raises:
        SettingError: if a split would be empty.
    """
    inputs, labels = _shuffled(train, validation, seed)
    inputs = (inputs - inputs[:train].mean()) / inputs[:train].std()
    sizes = [train, validation, EXAMPLES - train - validation]
    first, second, third = zip(torch.split(inputs, sizes), torch.split(labels, sizes), strict=True)
    return first, second, third


def load_digit_images(train: int, validation: int, seed: int) -> tuple[Images, Images, Images]:
    """The same splits as images of one channel, a byte for each pixel, white 255.

    Args:
        train, validation, seed: see ``load_digit_splits``.

    Raises:
        SettingError: if a split would be empty.
    """
    inputs, labels = _shuffled(train, validation, seed)
    pixels = (inputs * (255 / 16)).round().to(torch.uint8).view(-1, 1, PIXELS, PIXELS)
    sizes = [train, validation, EXAMPLES - train - validation]
    first, second, third = zip(torch.split(pixels, sizes), torch.split(labels, sizes), strict=True)
    return first, second, third


def _shuffled(
    train: int, validation: int, seed: int
) -> tuple[Float[Tensor, "examples 64"], Int[Tensor, "examples"]]:
    """All digits, from 0 to 16 per pixel, in the order in which they go into splits.

    Raises:
        SettingError: if a split would be empty.
    """
    from sklearn.datasets import load_digits

    left = EXAMPLES - train - validation
    if min(train, validation, left) < 1:
        raise SettingError(
            "train_examples",
            f"{train} training and {validation} validation examples leave {left} of {EXAMPLES} for the test split;"
            " every split needs at least one",
        )
    data = load_digits()
    order = torch.randperm(EXAMPLES, generator=torch.Generator().manual_seed(seed))
    inputs = torch.tensor(data.data, dtype=torch.float32)[order]
    return inputs, torch.tensor(data.target, dtype=torch.int64)[order]
