"""Photographs for denoising: grey crops in three splits, clean and with noise."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import torch

from selftune.data import SPLITS
from selftune.errors import SettingError, suggestion
from selftune.shapes import Float, Tensor

# no photograph is in two splits; all of them lie inside scikit-image's wheel
BUNDLED = {
    "train": ("camera", "astronaut", "coffee", "chelsea"),
    "validation": ("coins", "rocket"),
    "test": ("brick", "page", "moon", "clock"),
}
_DRAWS = 5


@dataclass(frozen=True)
class Pairs:
    """Grey pictures in [0, 1], and the same with noise (not clipped), both (pictures, height, width)."""

    true: Float[Tensor, "pictures height width"]
    noisy: Float[Tensor, "pictures height width"]

    @staticmethod
    def with_noise(true: Float[Tensor, "pictures height width"], noise: float, seed: int) -> Pairs:
        """Adds Gaussian noise of this standard deviation.

        >>> Pairs.with_noise(torch.zeros(2, 8, 8), 0.1, seed=0).noisy.std() < 0.12
        tensor(True)
        """
        generator = torch.Generator().manual_seed(seed)
        return Pairs(true, true + noise * torch.randn(true.shape, generator=generator, dtype=true.dtype))


def bundled_crops(counts: Mapping[str, int], size: int, seed: int) -> dict[str, Float[Tensor, "crops size size"]]:
    """Crops of scikit-image's photographs by split; no photograph is in two splits.

    The photographs take turns; of five random positions in each the one with the most contrast is cut out, for
    a crop of empty sky teaches nothing.

    Raises:
        SettingError: if a photograph is smaller than a crop.

    >>> bundled_crops({"train": 2, "validation": 1, "test": 1}, size=16, seed=0)["train"].shape
    torch.Size([2, 16, 16])
    """
    generator = torch.Generator().manual_seed(seed)
    crops = {}
    for split in SPLITS:
        names = BUNDLED[split]
        pictures = {name: _bundled(name) for name in names[: counts[split]]}
        smallest = min(min(picture.shape) for picture in pictures.values())
        if smallest < size:
            raise SettingError(
                "crop", f"the {split} photographs have only {smallest} rows; crop at most that many"
            )
        chosen = [_crop(pictures[names[index % len(names)]], size, generator) for index in range(counts[split])]
        crops[split] = torch.stack(chosen)
    return crops


def _crop(picture: Tensor, size: int, generator: torch.Generator) -> Tensor:
    crops = []
    for _ in range(_DRAWS):
        row, column = (int(torch.randint(side - size + 1, (), generator=generator)) for side in picture.shape)
        crops.append(picture[row : row + size, column : column + size])
    return max(crops, key=lambda crop: float(crop.std()))


def _bundled(name: str) -> Float[Tensor, "height width"]:
    import skimage.data

    return _grey(getattr(skimage.data, name)())


def _grey(pixels: Any) -> Float[Tensor, "height width"]:
    from skimage.color import rgb2gray, rgba2rgb
    from skimage.util import img_as_float64

    pixels = img_as_float64(pixels)
    if pixels.ndim == 3:
        pixels = rgb2gray(rgba2rgb(pixels) if pixels.shape[2] == 4 else pixels)
    return torch.tensor(pixels)


def crops_in(file: str) -> dict[str, Float[Tensor, "crops height width"]]:
    """Crops in a Parquet file by split: columns ``image`` (PNG files as bytes) and ``split``.

    Colour pictures become grey. All crops must have one size.

    Raises:
        SettingError: under the key ``file``, if it is not there or no Parquet file, lacks a column or a split, or
            holds something that is not a picture or pictures of different sizes.
    """
    table = _table(file)
    crops: dict[str, list[Tensor]] = {split: [] for split in SPLITS}
    for row, (image, split) in enumerate(zip(table["image"], table["split"], strict=True)):
        if split not in crops:
            raise SettingError(
                "file", f"{file}, row {row}: unknown split {split!r}; {suggestion(str(split), SPLITS)}"
            )
        crops[split].append(_decoded(image, f"{file}, row {row}"))
    for split, pictures in crops.items():
        if not pictures:
            raise SettingError("file", f"{file} has no crop with split {split!r}; add one")
    shapes = sorted({tuple(picture.shape) for pictures in crops.values() for picture in pictures})
    if len(shapes) > 1:
        raise SettingError("file", f"{file} has crops of sizes {shapes[0]} and {shapes[-1]}; cut all to one size")
    return {split: torch.stack(pictures) for split, pictures in crops.items()}


def _table(file: str) -> dict[str, list[Any]]:
    import pyarrow
    import pyarrow.parquet

    if not Path(file).is_file():
        raise SettingError("file", f"there is no file {file}")
    try:
        table = pyarrow.parquet.read_table(file)
    except pyarrow.ArrowInvalid as error:
        raise SettingError("file", f"{file} is not a Parquet file") from error
    for column in ("image", "split"):
        if column not in table.column_names:
            raise SettingError("file", f"{file} has no column {column!r}; it needs image (PNG bytes) and split")
    columns: dict[str, list[Any]] = table.select(["image", "split"]).to_pydict()
    return columns


def _decoded(image: Any, where: str) -> Float[Tensor, "height width"]:
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(BytesIO(image)) as picture:
            return torch.tensor(np.asarray(picture.convert("L"), dtype=np.float64) / 255)
    except (UnidentifiedImageError, OSError, TypeError) as error:
        raise SettingError("file", f"{where}: the image is not a picture; store PNG files as bytes") from error
