"""SelfMix: a rectangle of one crop pasted into another crop of the same image."""

from __future__ import annotations

from selftune.objectives.regularizers.supervision.cutmix import _rectangle

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
