"""Pictures that tests read again."""

import io

import numpy as np
from PIL import Image

HEIGHT, WIDTH = 6, 5


def picture(seed, height=HEIGHT, width=WIDTH, channels=3):
    """An image of random pixels."""
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, channels), dtype=np.uint8)
    return Image.fromarray(pixels[..., 0] if channels == 1 else pixels)


def encoded_picture(seed):
    """The bytes of a PNG file of it."""
    buffer = io.BytesIO()
    picture(seed).save(buffer, "PNG")
    return buffer.getvalue()


def folder_of_pets(folder):
    """Ten images each of cats (seeds 0, 2, ...) and dogs (seeds 1, 3, ...)."""
    for number in range(20):
        file = folder / ("cat", "dog")[number % 2] / f"{number:02}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        picture(number).save(file)
    return folder
