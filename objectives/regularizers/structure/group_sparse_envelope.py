"""The convex envelope of "half the squared norm, with at most k active groups", and its proximal map."""

from __future__ import annotations

import torch

from selftune.shapes import Float, Tensor


def group_sparse_envelope(
    norms: Float[Tensor, "groups"], *, active: int, weights: Float[Tensor, "groups"] | None = None
) -> Float[Tensor, ""]:
    """``1/2 min_u sum_j d_j n_j^2 / u_j`` over shares 0 <= u_j <= 1 of sum at most ``active``.

    With unit weights d it is half the squared k-support norm of the norms. The gradient is ``d_j n_j / u_j``, zero
    for groups that are zero.

    Args:
        norms: Euclidean norms n of the groups.
        active: k, how many groups may stay; at least 1.
        weights: d, positive; ones by default.

    Raises:
        ValueError: if ``active`` is below 1.

    Source: "Learning k-Level Structured Sparse Neural Networks Using Group Envelope Regularization"
    (arXiv 2212.12921).

    >>> norms = torch.tensor([3.0, 1.0, 1.0])
    >>> group_sparse_envelope(norms, active=1), group_sparse_envelope(norms, active=2)
    (tensor(12.5000), tensor(6.5000))
    """
    d = _weights(norms, active, weights)
    # The minimum's gradient is that of the objective at the minimiser, held fixed (envelope theorem).
    shares = _shares((d.sqrt() * norms).detach(), torch.zeros_like(norms), active)
    counts = shares > 0
    return 0.5 * (d * norms.square() / torch.where(counts, shares, 1)).masked_fill(~counts, 0).sum()


def group_sparse_envelope_proximal(
    norms: Float[Tensor, "groups"],
    *,
    active: int,
    strength: float | Float[Tensor, ""],
    weights: Float[Tensor, "groups"] | None = None,
) -> Float[Tensor, "groups"]:
    """Factors in [0, 1] that map every group to the minimiser of ``strength * envelope + 1/2 squared distance``.

    Groups whose share is zero vanish. The envelope is that of :func:`group_sparse_envelope`.

    Args:
        norms: Euclidean norms of the groups.
        active: how many groups may stay; at least 1.
        strength: not negative; it contains the learning rate. With 0, every non-zero group keeps the factor 1.
        weights: positive; ones by default.

    Raises:
        ValueError: if ``active`` is below 1.

    Source: "Learning k-Level Structured Sparse Neural Networks Using Group Envelope Regularization"
    (arXiv 2212.12921); the map is derived from its definition.

    >>> group_sparse_envelope_proximal(torch.tensor([4.0, 2.0, 0.5]), active=2, strength=0.5)
    tensor([0.6667, 0.6667, 0.0000])
    """
    d = _weights(norms, active, weights)
    offsets = strength * d
    shares = _shares(d.sqrt() * norms, offsets, active)
    stays = shares > 0
    return (shares / torch.where(stays, shares + offsets, 1)).masked_fill(~stays, 0)


def _weights(
    norms: Float[Tensor, "groups"], active: int, weights: Float[Tensor, "groups"] | None
) -> Float[Tensor, "groups"]:
    if active < 1:
        raise ValueError(f"The group envelope needs at least one active group, got active={active}.")
    return torch.ones_like(norms) if weights is None else weights


def _shares(
    slopes: Float[Tensor, "groups"], offsets: Float[Tensor, "groups"], active: int
) -> Float[Tensor, "groups"]:
    """``clip(slopes * t - offsets, 0, 1)`` with t such that they sum to ``active``.

    Groups of slope zero get zero; where no more than ``active`` others are left, those get one.
    """
    alive = slopes > 0
    with torch.no_grad():
        # The sum is piecewise linear in t; it bends where a group leaves 0 and where it reaches 1. Double
        # precision, because the slopes of many groups are added and taken away again.
        rises, floors = slopes.to(torch.float64), offsets.to(torch.float64)
        divisors = torch.where(alive, rises, 1)
        bends = torch.cat([floors / divisors, (1 + floors) / divisors]).masked_fill(~alive.repeat(2), torch.inf)
        bends, order = bends.sort()
        growth = torch.cat([rises, -rises])[order].cumsum(0)[:-1] * bends.diff()
        sums = torch.cat([growth.new_zeros(1), growth.nan_to_num(posinf=0, neginf=0).cumsum(0)])
        end = (sums < active).sum(0, keepdim=True).clamp(1, len(sums) - 1)
        middle = (bends[end - 1] + bends[end]) / 2
        levels = rises * middle - floors
        full, partial = levels >= 1, (levels > 0) & (levels < 1)
    # Where the sum is flat, every group is at 0 or 1, and the middle is as good a t as any other.
    total = (slopes * partial).sum()
    solution = (active - full.sum() + (offsets * partial).sum()) / torch.where(total > 0, total, 1)
    t = torch.where(total > 0, solution, middle.to(slopes.dtype))
    shares = (slopes * t - offsets).clamp(0, 1)
    return torch.where(alive.sum() <= active, alive.to(slopes.dtype), shares)
