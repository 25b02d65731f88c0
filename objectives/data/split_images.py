"""Labelled images by split, in memory: what a task trains on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from selftune.objectives.data.data_files import AnyPath
from selftune.objectives.data.held_readings import held
from selftune.objectives.data.image_files import Images, read_images

from selftune.data import SPLITS
from selftune.shapes import Int, Tensor, UInt8

Pair = tuple[UInt8[Tensor, "images channels height width"], Int[Tensor, "images"]]


@dataclass(frozen=True)
class SplitImages:
    """Images with their class numbers, a pair for every split; nobody may change them, for studies share them.

    Attributes:
        train, validation, test: pixels from 0 to 255, and classes by number.
        classes: names of the classes.
    """

    train: Pair
    validation: Pair
    test: Pair
    classes: tuple[str, ...]


def split_images(images: Images) -> SplitImages:
    """The same images, those of every split by themselves.

    >>> import torch
    >>> part = torch.tensor([0])
    >>> splits = {"train": part, "validation": part, "test": part}
    >>> pixels, labels = torch.zeros(2, 1, 4, 4, dtype=torch.uint8), torch.tensor([0, 1])
    >>> split_images(Images(pixels, labels, ("cat", "dog"), splits)).test[1]
    tensor([0])
    """
    parts = (images.splits[name] for name in SPLITS)
    train, validation, test = ((images.pixels[part], images.labels[part]) for part in parts)
    return SplitImages(train, validation, test, images.classes)


@held
def read_split_images(
    path: AnyPath,
    size: Sequence[int] | None = None,
    split: Mapping[str, float] | None = None,
    seed: int = 0,
    image: str | None = None,
    label: str | None = None,
) -> SplitImages:
    """``read_images`` by split; what was read last is held, see ``held``."""
    return split_images(read_images(path, size, split, seed, image, label))
