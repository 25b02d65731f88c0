"""Cutout: random squares of every image are zeroed."""

from __future__ import annotations

import torch

from selftune.hyperparameters import Hyperparameter, Integer, StartRule, Unit
from selftune.lower_level.start_values import Setup
from selftune.registries.reference import Reference
from selftune.regularization.regularizer import Regularizer, register
from selftune.regularization.step import Step
from selftune.shapes import Bool, Float, Int, Tensor


def cutout(
    inputs: Float[Tensor, "batch channels height width"],
    centers: Int[Tensor, "batch *squares 2"],
    size: int | Int[Tensor, "*size"] = 16,
    holes: int | Int[Tensor, "*holes"] | None = None,
) -> Float[Tensor, "batch channels height width"]:
    """Zeroes squares of every image in all channels; what sticks out of the image is cut off.

    Inputs should have mean zero, so that 0 is the average colour.

    Args:
        centers: row and column of the center of every image's square, or of each of its squares.
        size: side of the squares, at least 0, rounded down to an even number; one for all or one per example.
        holes: how many of the squares are cut, the first ones; one number for all or one per example. None cuts
            all of them.

    Source: "Improved Regularization of Convolutional Neural Networks with Cutout" (arXiv 1708.04552).

    >>> cutout(torch.ones(1, 1, 3, 3), torch.tensor([[1, 1]]), size=2)
    tensor([[[[0., 0., 1.],
              [0., 0., 1.],
              [1., 1., 1.]]]])
    """
    half = torch.as_tensor(size, device=inputs.device) // 2
    if centers.ndim == 2:
        centers = centers[:, None]
    squares = torch.arange(centers.shape[1], device=inputs.device)
    cut = squares < torch.as_tensor(len(squares) if holes is None else holes, device=inputs.device)[..., None]
    height, width = inputs.shape[-2:]
    rows = _near(centers[..., 0], half[..., None], height) & cut[..., None]
    columns = _near(centers[..., 1], half[..., None], width)
    number = torch.einsum("bsh,bsw->bhw", rows.float(), columns.float())  # of squares that a pixel is in
    return inputs.masked_fill(number[:, None] > 0, 0)


def _box(
    center: Int[Tensor, "*batch 2"], half_height: Tensor, half_width: Tensor, images: Float[Tensor, "..."]
) -> Bool[Tensor, "*batch height width"]:
    """The pixels within ``[center - half, center + half)`` along both axes."""
    row, column = center.unbind(dim=-1)
    height, width = images.shape[-2:]
    return _near(row, half_height, height)[..., :, None] & _near(column, half_width, width)[..., None, :]


def _near(center: Int[Tensor, "*batch"], half: Tensor, length: int) -> Bool[Tensor, "*batch length"]:
    offset = torch.arange(length, device=center.device) - center[..., None]
    return (offset >= -half[..., None]) & (offset < half[..., None])


def _quarter(setup: Setup) -> float:
    """A quarter of an image's side, the middle of up to a half, which the paper cuts out of CIFAR-10 images."""
    return 2 * max(1, setup.image_side // 8)  # an even number, to which sizes are rounded


_QUARTER = StartRule(
    _quarter,
    "a quarter of the image's side: the mean, as TrivialAugment (2103.10158) draws it, of sizes up to the half"
    " that 1708.04552 cuts out",
)


@register
class Cutout(Regularizer):
    """Zeroes ``holes`` squares of ``size`` pixels around random pixels of every image.

    Only a share ``probability`` of the images is changed. Squares may overlap.
    """

    name = "cutout"
    family = "supervision"
    kind = "augment"
    reference = Reference("Improved Regularization of Convolutional Neural Networks with Cutout", "1708.04552")
    hyperparameters = (
        Hyperparameter("size", Integer(0, 128, sweep=(0, 24)), 16, smooth=False, start=_QUARTER),
        Hyperparameter("probability", Unit(), 1.0, smooth=False),
        Hyperparameter("holes", Integer(0, 8, sweep=(0, 4)), 1, smooth=False),
    )
    needs = frozenset({"inputs", "images", "real_inputs"})
    order = "noise"

    def batch(self, step: Step) -> None:
        centers = self._centers(step)
        cuts = step.rand(len(step.inputs)) < self.value(step, "probability")
        holes = self.value(step, "holes")
        further = [self._centers(step) for _ in range(1, self._most())]
        step.inputs = cutout(
            step.inputs, torch.stack([centers, *further], dim=1), cuts * self.value(step, "size"), holes
        )

    def _centers(self, step: Step) -> Int[Tensor, "batch 2"]:
        batch = len(step.inputs)
        return torch.stack([_pixels(step, batch, length) for length in step.inputs.shape[-2:]], dim=1)

    def _most(self) -> int:
        """The largest number of holes that an image can have: as many are drawn, whatever the number is now."""
        holes = self.bound["holes"]
        return int(holes.domain.limits[1] if holes.tuned or holes.parts else holes.value)


def _pixels(step: Step, count: int, length: int) -> Int[Tensor, "count"]:
    """Random positions along an axis."""
    return torch.randint(length, (count,), generator=step.generator, device=step.inputs.device)
