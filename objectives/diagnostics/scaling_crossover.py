"""Scaling crossover: the scale at which one method overtakes another."""

from __future__ import annotations

import torch

from selftune.registries.diagnostics import diagnostic
from selftune.registries.reference import Reference
from selftune.shapes import Float, Tensor


@diagnostic(
    family="supervision",
    reference=Reference(
        "Rethinking Conventional Wisdom in Machine Learning: From Generalization to Scaling", "2409.15156"
    ),
)
def scaling_crossover(
    scales: Float[Tensor, "m"],
    losses_first: Float[Tensor, "m"],
    losses_second: Float[Tensor, "m"],
    floor: float = 0.0,
) -> Float[Tensor, ""]:
    """The scale at which the fitted power laws ``log(loss - floor) = a + b log(scale)`` of two methods meet.

    Args:
        scales: positive; sizes of the model, the data or the compute.
        losses_first, losses_second: final losses of the two methods, above ``floor``.
        floor: irreducible loss, at least 0.

    Returns:
        The scale; inf for laws that are parallel (to rounding), which have no crossover; nan for equal laws and
        for losses that are not above the floor.

    Raises:
        ValueError: with fewer than two scales.

    Source: the phenomenon is that of "Rethinking Conventional Wisdom in Machine Learning: From Generalization to
    Scaling" (arXiv 2409.15156); the estimator is ours.

    >>> scales = torch.tensor([1.0, 10.0, 100.0])
    >>> scaling_crossover(scales, 4 / scales, 1 / scales.sqrt())
    tensor(16.0000)
    """
    if len(scales) < 2:
        raise ValueError(f"a power law needs losses at two scales at least, got {len(scales)}.")
    x = scales.log()
    y = torch.stack([losses_first, losses_second]).sub(floor).log()
    centered = x - x.mean()
    slopes = (y * centered).sum(dim=1) / centered.square().sum()
    intercepts = y.mean(dim=1) - slopes * x.mean()
    rise, gap = intercepts[0] - intercepts[1], slopes[1] - slopes[0]
    rounding = 8 * torch.finfo(y.dtype).eps * slopes.abs().amax()
    never = rise.abs() / torch.zeros_like(rise)  # inf, or nan if the laws coincide
    return torch.where(gap.abs() <= rounding, never, rise / gap).exp()
