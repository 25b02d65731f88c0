"""Encoded pictures (PNG, JPEG, WebP, ...) as pixels."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from itertools import islice, repeat
from typing import Any

import numpy as np
from selftune.objectives.data.data_files import reason

from selftune.errors import SettingError

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".webp", ".gif", ".tif", ".tiff", ".ppm", ".pgm")
"""What files of pictures are called."""

Pixels = np.ndarray[Any, np.dtype[np.uint8]]
Size = tuple[int, int]
"""Height and width in pixels."""

_AT_ONCE = 256
_GREY = ("1", "L", "LA", "La")
_CLEAR = ("LA", "La", "PA", "RGBA", "RGBa")
_DEEP = ("I", "F")


def checked_size(size: Sequence[int] | None) -> Size | None:
    """Height and width to which pictures are resized.

    Raises:
        SettingError: under the key ``size``, if these are not two whole numbers of at least 1.

    >>> checked_size([32, 48])
    (32, 48)
    """
    if size is None:
        return None
    listed = isinstance(size, Sequence) and not isinstance(size, str) and len(size) == 2
    if not listed or not all(isinstance(side, int) and not isinstance(side, bool) and side > 0 for side in size):
        raise SettingError("size", f"must be [height, width], two whole numbers of at least 1, got {size!r}")
    return size[0], size[1]


def decoded(content: object, where: str, size: Size | None = None) -> Pixels:
    """The pixels of an encoded picture, of shape (channels, height, width): one channel if it is grey, or three.

    It stands upright, as its camera says. What is transparent becomes white. Of an animation the first picture
    is taken.

    Args:
        content: the bytes of a file.
        where: names the picture in a refusal.
        size: height and width to which it is resized (bilinear, every pixel counts).

    Raises:
        SettingError: under the key ``path``, if it is damaged or no picture, or has more than 8 bits a channel.
    """
    from PIL import Image, ImageOps, UnidentifiedImageError

    if not isinstance(content, bytes):
        raise SettingError("path", f"{where}: is no picture but {type(content).__name__}; store the bytes of one")
    try:
        with Image.open(BytesIO(content)) as opened:
            picture = ImageOps.exif_transpose(opened)
            picture.load()
            deep = picture.mode.partition(";")[0] in _DEEP
            picture = picture if deep else _flat(picture)
    except (OSError, SyntaxError, ValueError, EOFError, struct.error, Image.DecompressionBombError) as error:
        said = "" if isinstance(error, UnidentifiedImageError) else f" ({reason(error)})"
        raise SettingError("path", f"{where}: is damaged, or no picture{said}; replace or remove it") from error
    if deep:
        raise SettingError("path", f"{where}: has more than 8 bits a channel; convert it to 8 bits")
    if size is not None and picture.size != size[::-1]:
        picture = picture.resize(size[::-1], Image.Resampling.BILINEAR)
    pixels: Pixels = np.asarray(picture, dtype=np.uint8)
    return pixels[None] if pixels.ndim == 2 else np.moveaxis(pixels, 2, 0)


def _flat(picture: Any) -> Any:
    """In grey or in colour, on white where it is transparent."""
    from PIL import Image

    mode = "L" if picture.mode in _GREY else "RGB"
    if picture.mode in _CLEAR or "transparency" in picture.info:
        picture = picture.convert("RGBA")
        picture = Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture)
    return picture.convert(mode)


def all_decoded(pictures: Iterable[tuple[str, object]], size: Size | None = None) -> Iterator[Pixels]:
    """The pixels of many pictures of one size, in their order; some at a time are decoded, on all cores.

    Args:
        pictures: what names each in a refusal, and its bytes.
        size: height and width to which all are resized.

    Raises:
        SettingError: as ``decoded``; under the key ``size`` if one has not the size of the first.
    """
    left = iter(pictures)
    first: tuple[int, ...] | None = None
    with ThreadPoolExecutor() as pool:
        while some := list(islice(left, _AT_ONCE)):
            names, contents = zip(*some, strict=True)
            for name, pixels in zip(names, pool.map(decoded, contents, names, repeat(size)), strict=True):
                first = first or pixels.shape[1:]
                check_same_size(pixels.shape[1:], first, name)
                yield pixels


def check_same_size(size: tuple[int, ...], first: tuple[int, ...], where: str) -> None:
    """Refuses a picture that has not the height and width of the first one.

    Raises:
        SettingError: under the key ``size``.
    """
    if size != first:
        raise SettingError(
            "size",
            f"{where} has {size[0]} x {size[1]} pixels and the first image {first[0]} x {first[1]}; give size,"
            " [height, width], to which all are resized",
        )
