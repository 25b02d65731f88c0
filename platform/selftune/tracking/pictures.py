"""pictures.npz: what a study of pictures gave, and how a page shows it."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping
from pathlib import Path
from typing import TypedDict

import numpy as np
from PIL import Image

from selftune.shapes import Float, Int
from selftune.storage.files import replacing

NAME = "pictures.npz"
MAXIMUM_ROWS = 8  # of pictures on a page
_TRUE = "true"  # what the others are compared with


class Shown(TypedDict):
    """One picture on a page: its caption, and the PNG as a data URI."""

    caption: str
    source: str


def save_pictures(folder: Path, pictures: Mapping[str, Float[np.ndarray, "pictures h w"]]) -> None:
    """Keeps grey pictures in [0, 1], by what they show, in a study's folder.

    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp())
    >>> save_pictures(folder, {"true": np.zeros((1, 2, 2)), "noisy": np.full((1, 2, 2), 0.1)})
    >>> [shown["caption"] for shown in read_pictures(folder)[0]]
    ['true', 'noisy, 20.0 dB']
    """
    with replacing(folder / NAME) as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, **{what: batch.astype(np.float32) for what, batch in pictures.items()})  # type: ignore[arg-type]


def read_pictures(folder: Path) -> list[list[Shown]]:
    """The first pictures of a study's folder, a row for each; empty if it holds none.

    Captions give the peak signal-to-noise ratio against the picture that is called ``true``, if one is.
    """
    path = Path(folder) / NAME
    if not path.is_file():
        return []
    with np.load(path) as stored:
        pictures = {what: stored[what] for what in stored.files}
    count = min(MAXIMUM_ROWS, *(len(batch) for batch in pictures.values()))
    return [[_shown(what, batch[i], pictures, i) for what, batch in pictures.items()] for i in range(count)]


def _shown(
    what: str,
    picture: Float[np.ndarray, "h w"],
    pictures: Mapping[str, Float[np.ndarray, "pictures h w"]],
    number: int,
) -> Shown:
    caption = what
    if what != _TRUE and _TRUE in pictures:
        mean_square = float(np.mean((picture - pictures[_TRUE][number]) ** 2))
        caption += f", {-10 * np.log10(mean_square):.1f} dB" if mean_square > 0 else ", no difference"
    return Shown(caption=caption, source=_png(np.round(255 * picture.clip(0, 1)).astype(np.uint8)))


def _png(pixels: Int[np.ndarray, "h w"]) -> str:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")
