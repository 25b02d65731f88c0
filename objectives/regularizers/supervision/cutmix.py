"""CutMix: a rectangle of the partner image, targets mixed by area."""

from __future__ import annotations

import torch
from selftune.objectives.regularizers.supervision.cutout import _box, _pixels
from selftune.objectives.regularizers.supervision.mixup import Mixup

from selftune.hyperparameters import Hyperparameter, Positive, StartRule, Unit
from selftune.registries.reference import Reference
from selftune.regularization.regularizer import register
from selftune.regularization.step import Mixing, Step
from selftune.shapes import Bool, Float, Int, Tensor


def cutmix(
    inputs: Float[Tensor, "batch channels height width"],
    targets: Float[Tensor, "batch classes"],
    permutation: Int[Tensor, "batch"],
    lam: Float[Tensor, ""],
    center: Int[Tensor, "2"],
) -> tuple[Float[Tensor, "batch channels height width"], Float[Tensor, "batch classes"]]:
    """Pastes one rectangle of the partner ``permutation[i]`` into every image; targets follow the kept area.

    The rectangle has about ``1 - lam`` of the image's area; what sticks out of the image is cut off, and
    targets are mixed by the area that remains.

    Args:
        lam: share of the image to keep, in [0, 1].
        center: row and column of the rectangle's center.

    Source: "CutMix: Regularization Strategy to Train Strong Classifiers with Localizable Features"
    (arXiv 1905.04899, equations 1 and 2).

    >>> import torch
    >>> images = torch.tensor([0.0, 1.0]).view(2, 1, 1, 1).expand(2, 1, 4, 4)
    >>> mixed, targets = cutmix(
    ...     images, torch.eye(2), torch.tensor([1, 0]), torch.tensor(0.75), torch.tensor([2, 2]))
    >>> mixed[0, 0, 1], targets[0]
    (tensor([0., 1., 1., 0.]), tensor([0.7500, 0.2500]))
    """
    box = _rectangle(lam, center, inputs)
    kept = 1 - box.to(targets.dtype).mean()
    mixed = inputs[permutation].where(box, inputs)
    return mixed, kept * targets + (1 - kept) * targets[permutation]


def _rectangle(
    lam: Float[Tensor, ""], center: Int[Tensor, "2"], images: Float[Tensor, "..."]
) -> Bool[Tensor, "height width"]:
    """The pixels that come from the partner: both sides are ``sqrt(1 - lam)`` of the image's."""
    height, width = images.shape[-2:]
    side = (1 - lam).sqrt()
    half_height, half_width = ((length * side).long() // 2 for length in (height, width))
    return _box(center, half_height, half_width, images)


@register
class Cutmix(Mixup):
    """CutMix with ``lam ~ Beta(alpha, alpha)`` and one rectangle per batch, around a random pixel.

    Only a share ``probability`` of the batches is mixed; the others are left as they are.
    """

    name = "cutmix"
    reference = Reference(
        "CutMix: Regularization Strategy to Train Strong Classifiers with Localizable Features", "1905.04899"
    )
    hyperparameters = (
        Hyperparameter(
            "alpha",
            Positive(sweep=(0.2, 2.0)),
            1.0,
            smooth=False,
            shared=True,
            start=StartRule(1.0, "CutMix: Regularization Strategy to Train Strong Classifiers (1905.04899)"),
        ),
        Hyperparameter("probability", Unit(), 1.0, smooth=False, shared=True),
    )
    needs = frozenset({"inputs", "targets", "images", "real_inputs"})

    def batch(self, step: Step) -> None:
        permutation, lam, center = step.permutation(), self._own_share(step), self._center(step)
        kept = 1 - _rectangle(lam, center, step.inputs).to(step.targets.dtype).mean()
        step.mixings = (*step.mixings, Mixing(step.inputs, step.targets, permutation, kept))
        step.inputs, step.targets = cutmix(step.inputs, step.targets, permutation, lam, center)

    def _center(self, step: Step) -> Int[Tensor, "2"]:
        return torch.cat([_pixels(step, 1, length) for length in step.inputs.shape[-2:]])
