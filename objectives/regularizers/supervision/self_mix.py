"""SelfMix: a rectangle of one crop pasted into another crop of the same image."""

from __future__ import annotations

import torch
from selftune.objectives.regularizers.supervision.cutmix import Cutmix, _rectangle

from selftune.hyperparameters import Hyperparameter, Positive, Unit
from selftune.registries.reference import Reference
from selftune.regularization.regularizer import register
from selftune.regularization.step import Step
from selftune.shapes import Float, Int, Tensor


def self_mix(
    inputs: Float[Tensor, "batch 2 channels height width"],
    targets: Float[Tensor, "batch 2 classes"],
    lam: Float[Tensor, ""],
    center: Int[Tensor, "2"],
) -> tuple[Float[Tensor, "batch channels height width"], Float[Tensor, "batch classes"]]:
    """Pastes a rectangle of every image's second crop into its first; soft targets follow the kept area.

    The rectangle is that of ``cutmix``.

    Args:
        lam: share of the first crop to keep, in [0, 1].
        center: row and column of the rectangle's center.

    Source: "FerKD: Surgical Label Adaptation for Efficient Distillation" (arXiv 2312.17473).

    >>> import torch
    >>> crops = torch.tensor([0.0, 1.0]).view(1, 2, 1, 1, 1).expand(1, 2, 1, 4, 4)
    >>> mixed, targets = self_mix(crops, torch.eye(2)[None], torch.tensor(0.75), torch.tensor([2, 2]))
    >>> mixed[0, 0, 1], targets
    (tensor([0., 1., 1., 0.]), tensor([[0.7500, 0.2500]]))
    """
    box = _rectangle(lam, center, inputs)
    kept = 1 - box.to(targets.dtype).mean()
    mixed = inputs[:, 1].where(box, inputs[:, 0])
    return mixed, kept * targets[:, 0] + (1 - kept) * targets[:, 1]


@register
class SelfMix(Cutmix):
    """Pastes a rectangle of a second crop of every image into the first, by ``lam ~ Beta(alpha, alpha)``.

    Both crops have the label of their image. Only a share ``probability`` of the batches is mixed.
    """

    name = "self_mix"
    reference = Reference("FerKD: Surgical Label Adaptation for Efficient Distillation", "2312.17473")
    hyperparameters = (
        Hyperparameter("alpha", Positive(sweep=(0.2, 2.0)), 1.0, smooth=False, shared=True),
        Hyperparameter("probability", Unit(), 0.5, smooth=False, shared=True),
    )
    needs = frozenset({"inputs", "second_inputs", "targets", "images", "real_inputs"})
    order = "replay"  # both crops show one image, which no other is mixed with yet

    def batch(self, step: Step) -> None:
        crops = torch.stack([step.inputs, step.second_inputs], dim=1)
        targets = torch.stack([step.targets, step.targets], dim=1)
        step.inputs, step.targets = self_mix(crops, targets, self._own_share(step), self._center(step))
