"""Loops of the augmentations of images, image after image and pixel after pixel."""

import colorsys
import itertools
import math

import torch
import torch.nn.functional as F
from authors.bench import BATCH, cross_entropy, loop, trained


@loop("cutout", kind="images", size=4, probability=0.7)
def cutout(bench):
    """DeVries and Taylor: the square's corners are clipped to the image."""

    def loss(network, batch):
        rows, columns = (torch.randint(6, (BATCH,), generator=batch.generator) for _ in range(2))
        cuts, masks = batch.rand(BATCH) < 0.7, torch.ones_like(batch.x)
        for mask, row, column, cut in zip(masks, rows.tolist(), columns.tolist(), cuts, strict=True):
            if cut:
                mask[:, max(row - 2, 0) : row + 2, max(column - 2, 0) : column + 2] = 0
        return cross_entropy(network(batch.x * masks), batch.y)

    return trained(bench, loss)


@loop("cutout", kind="images", size=3, holes=3)
def several_holes(bench):
    """DeVries and Taylor's code: hole after hole."""

    def loss(network, batch):
        def centers():
            return [torch.randint(6, (BATCH,), generator=batch.generator).tolist() for _ in range(2)]

        first = centers()
        batch.rand(BATCH)  # of the probability, which is one
        mask = torch.ones_like(batch.x)
        for rows, columns in (first, centers(), centers()):
            for example, (row, column) in enumerate(zip(rows, columns, strict=True)):
                mask[example, :, max(row - 1, 0) : row + 1, max(column - 1, 0) : column + 1] = 0
        return cross_entropy(network(batch.x * mask), batch.y)

    return trained(bench, loss)


@loop("input_scaling", magnitude=0.25)
def input_scaling(bench):
    def loss(network, batch):
        factors = 0.8 + 0.45 * batch.rand(BATCH)
        return cross_entropy(network(batch.x * factors[:, None]), batch.y)

    return trained(bench, loss)


def _images_by_numbers(name, change, magnitude, kind):
    """A loop that changes image after image, each by a number of its own in [-magnitude, magnitude]."""

    def loss(network, batch):
        numbers = magnitude * (2 * batch.rand(BATCH) - 1)
        changed = [change(image, float(number)) for image, number in zip(batch.x, numbers, strict=True)]
        return cross_entropy(network(torch.stack(changed)), batch.y)

    loop(name, kind=kind, magnitude=magnitude)(lambda bench: trained(bench, loss))


LUMA = torch.tensor([0.299, 0.587, 0.114], dtype=torch.float64)


def _luma(image):
    return torch.einsum("c,chw->hw", LUMA.to(image), image)


def _turned_hue(image, turns):
    """Pixel after pixel, by Python's own conversion."""
    turned = torch.empty_like(image)
    for row in range(image.shape[1]):
        for column in range(image.shape[2]):
            hue, saturation, value = colorsys.rgb_to_hsv(*image[:, row, column].tolist())
            turned[:, row, column] = torch.tensor(colorsys.hsv_to_rgb((hue + turns) % 1, saturation, value))
    return turned


def _sampled(source):
    """Pixel after pixel, from the place that ``source`` gives for it, in pixels from the centre."""

    def change(image, number):
        seen, (height, width) = torch.zeros_like(image), image.shape[1:]
        for row, column in itertools.product(range(height), range(width)):
            x, y = source(column - (width - 1) / 2, row - (height - 1) / 2, number)
            x, y = x + (width - 1) / 2, y + (height - 1) / 2
            for r, c in itertools.product((math.floor(y), math.floor(y) + 1), (math.floor(x), math.floor(x) + 1)):
                if 0 <= r < height and 0 <= c < width:
                    seen[:, row, column] += (1 - abs(y - r)) * (1 - abs(x - c)) * image[:, r, c]
        return seen

    return change


def _rotated(x, y, degrees):
    cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    return cos * x - sin * y, sin * x + cos * y


_images_by_numbers("brightness", lambda image, b: ((1 + b) * image).clamp(0, 1), 0.5, "photographs")
_images_by_numbers("contrast", lambda x, c: (x + c * (x - _luma(x).mean())).clamp(0, 1), 0.5, "photographs")
_images_by_numbers("saturation", lambda x, s: (x + s * (x - _luma(x))).clamp(0, 1), 0.5, "photographs")
_images_by_numbers("hue", _turned_hue, 0.3, "photographs")
_images_by_numbers("rotation", _sampled(_rotated), 40.0, "images")
_images_by_numbers("shear", _sampled(lambda x, y, a: (x - math.tan(math.radians(a)) * y, y)), 30.0, "images")
_images_by_numbers("scaling", _sampled(lambda x, y, s: (x / (1 + s), y / (1 + s))), 0.4, "images")


@loop("translation", kind="images", magnitude=0.3)
def translation(bench):
    def loss(network, batch):
        moves = [(6 * 0.3 * (2 * batch.rand(BATCH) - 1)).round().long().tolist() for _ in range(2)]
        padded, moved = F.pad(batch.x, (6, 6, 6, 6)), []
        for image, right, down in zip(padded, *moves, strict=True):
            moved.append(image[:, 6 - down : 12 - down, 6 - right : 12 - right])
        return cross_entropy(network(torch.stack(moved)), batch.y)

    return trained(bench, loss)
