"""Image files in memory: a folder with a folder per class, or a Parquet file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from selftune.objectives.data.data_files import AnyPath, existing, is_parquet
from selftune.objectives.data.image_folders import LAYOUT, image_folder
from selftune.objectives.data.image_parquet import ImageShards, image_parquet, image_shards
from selftune.objectives.data.image_sources import ImageSource
from selftune.objectives.data.parquet_shards import is_sharded
from selftune.objectives.data.pictures import all_decoded, checked_size
from selftune.objectives.data.splits import Splits, completed

from selftune.errors import SettingError
from selftune.memory import machines_memory
from selftune.shapes import Int, Tensor, UInt8

IMAGES = f"a folder of images, {LAYOUT}"


@dataclass(frozen=True)
class Images:
    """Labelled images of one size.

    Attributes:
        pixels: of type uint8, from 0 to 255; one channel if all images are grey, or three (red, green, blue).
        labels: their classes by number.
        classes: names of the classes.
        splits: positions of the train, validation and test images, ascending.
    """

    pixels: UInt8[Tensor, "images channels height width"]
    labels: Int[Tensor, "images"]
    classes: tuple[str, ...]
    splits: Splits


def read_images(
    path: AnyPath,
    size: Sequence[int] | None = None,
    split: Mapping[str, float] | None = None,
    seed: int = 0,
    image: str | None = None,
    label: str | None = None,
) -> Images:
    """Reads labelled images from a folder or Parquet.

    Args:
        path: a folder, ``FOLDER/<class>/*.png`` or ``FOLDER/<split>/<class>/*.png`` (jpg, webp and others, too),
            or a Parquet file with columns of images (bytes of image files), of labels and perhaps ``split``, or a
            folder of such files whose names say their split, as ``train-00000-of-00002.parquet``.
        size: height and width in pixels to which images are resized; None takes images of one size as they are.
        split: fractions of the training images that are held out, where the data have no such split.
        seed: decides which images these are. Classes are held out in equal shares.
        image, label: columns of Parquet; None finds them by their usual names, such as ``image`` or ``img``,
            ``label`` or ``fine_label``.

    Raises:
        SettingError: under the key ``path``, if nothing is there, or what is there cannot be used: the message
            names the file; under ``size`` if images are of different sizes; under ``split`` if a split is empty;
            under ``image`` or ``label`` if several columns could be meant.

    >>> from tempfile import mkdtemp
    >>> from pathlib import Path
    >>> from PIL import Image
    >>> folder = Path(mkdtemp())
    >>> for number in range(10):
    ...     name = folder / "ab"[number % 2] / f"{number}.png"
    ...     name.parent.mkdir(exist_ok=True)
    ...     Image.new("RGB", (4, 3)).save(name)
    >>> images = read_images(folder)
    >>> images.pixels.shape, images.classes, len(images.splits["train"])
    (torch.Size([10, 3, 3, 4]), ('a', 'b'), 6)
    """
    source = image_source(path, image, label)
    checked = checked_size(size)
    splits = completed(source.splits, len(source.labels), split, seed, source.labels)
    pixels: np.ndarray | None = None
    for number, one in enumerate(all_decoded(source.contents(), checked)):
        if pixels is None:
            _check_memory(len(source.labels) * one.nbytes, path)
            pixels = np.empty((len(source.labels), *one.shape), dtype=np.uint8)
        if len(one) > pixels.shape[1]:  # the first in colour
            pixels = np.repeat(pixels, 3, axis=1)
        pixels[number] = one
    assert pixels is not None  # a source without images was refused
    return Images(torch.from_numpy(pixels), source.labels, source.classes, splits)


def _check_memory(needed: int, path: AnyPath) -> None:
    there = machines_memory()
    if needed > there:
        raise SettingError(
            "path",
            f"{path} takes {needed / 1e9:.1f} GB in memory, and this machine has {there / 1e9:.1f} GB; give a"
            " smaller size, or leave the images on disk (selftune.objectives.data.parquet_images.ParquetImages)",
        )


def image_source(path: AnyPath, image: str | None = None, label: str | None = None) -> ImageSource:
    """The images of a folder or of Parquet, still encoded.

    Args:
        image, label: columns of Parquet; None finds them.

    Raises:
        SettingError: under the key ``path``, ``image`` or ``label``.
    """
    found = existing(path, IMAGES)
    if not found.is_dir() or is_sharded(found):
        return image_parquet(parquet_shards(found, image, label))
    for key, column in (("image", image), ("label", label)):
        if column is not None:
            raise SettingError(key, f"is a column of Parquet, and {found} is a folder of images; leave it out")
    return image_folder(found)


def parquet_shards(path: AnyPath, image: str | None = None, label: str | None = None) -> ImageShards:
    """The files of a data set of images in Parquet.

    Raises:
        SettingError: under the key ``path``, ``image`` or ``label``.
    """
    found = existing(path, IMAGES)
    if not (is_sharded(found) if found.is_dir() else is_parquet(found)):
        making = f"`selftune data import SOURCE --output FILE.parquet` makes one, where SOURCE is {IMAGES}"
        raise SettingError("path", f"{found} is no Parquet file of images; {making}")
    return image_shards(found, image, label)
