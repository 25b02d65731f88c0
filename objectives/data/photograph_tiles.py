"""Tiles of the photographs that come with scikit-image: small real images, a class for each photograph."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from selftune.objectives.data.image_files import Images
from selftune.objectives.data.photographs import BUNDLED
from selftune.objectives.data.splits import completed

SIDE = 32
MOST = 100
"""Tiles of one photograph."""

PHOTOGRAPHS = tuple(sorted(name for names in BUNDLED.values() for name in names))


def photograph_tiles(split: Mapping[str, float] | None = None, seed: int = 0) -> Images:
    """Tiles of 32 x 32 pixels in red, green and blue that do not overlap.

    Grey photographs have three equal channels. Of every photograph 100 tiles are drawn, or as many as it has.

    Args:
        split, seed: see ``read_images``; the seed draws the tiles, too.

    Raises:
        SettingError: under the key ``split``.

    >>> images = photograph_tiles()
    >>> images.pixels.shape, len(images.classes)
    (torch.Size([960, 3, 32, 32]), 10)
    """
    generator = np.random.default_rng(seed)
    tiles = [generator.permutation(_tiles(name))[:MOST] for name in PHOTOGRAPHS]
    labels = torch.cat([torch.full((len(some),), number) for number, some in enumerate(tiles)])
    pixels = torch.from_numpy(np.concatenate(tiles))
    return Images(pixels, labels, PHOTOGRAPHS, completed({}, len(labels), split, seed, labels))


def _tiles(name: str) -> np.ndarray:
    """All tiles of a photograph, (tiles, 3, 32, 32)."""
    import skimage.data

    picture = getattr(skimage.data, name)()
    if picture.ndim == 2:
        picture = np.repeat(picture[:, :, None], 3, axis=2)
    rows, columns = (side // SIDE for side in picture.shape[:2])
    cut = picture[: rows * SIDE, : columns * SIDE, :3].reshape(rows, SIDE, columns, SIDE, 3)
    return np.ascontiguousarray(cut.transpose(0, 2, 4, 1, 3).reshape(-1, 3, SIDE, SIDE))
