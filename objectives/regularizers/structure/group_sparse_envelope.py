"""The convex envelope of "half the squared norm, with at most k active groups", and its proximal map."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from selftune.hyperparameters import Choice, Hyperparameter, Positive, Unit
from selftune.registries.reference import Reference
from selftune.regularization.regularizer import Regularizer, register
from selftune.regularization.step import Step
from selftune.shapes import Float, Tensor


def group_sparse_envelope(
    norms: Float[Tensor, "groups"],
    *,
    active: int | Float[Tensor, ""],
    weights: Float[Tensor, "groups"] | None = None,
) -> Float[Tensor, ""]:
    """``1/2 min_u sum_j d_j n_j^2 / u_j`` over shares 0 <= u_j <= 1 of sum at most ``active``.

    With unit weights d it is half the squared k-support norm of the norms. The gradient is ``d_j n_j / u_j``, zero
    for groups that are zero.

    Args:
        norms: Euclidean norms n of the groups.
        active: k, how many groups may stay; at least 1; tensors may lie between whole numbers.
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
    active: int | Float[Tensor, ""],
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
    norms: Float[Tensor, "groups"], active: int | Float[Tensor, ""], weights: Float[Tensor, "groups"] | None
) -> Float[Tensor, "groups"]:
    if not isinstance(active, Tensor) and active < 1:  # a tensor would have to be waited for
        raise ValueError(f"The group envelope needs at least one active group, got active={active}.")
    return torch.ones_like(norms) if weights is None else weights


def _shares(
    slopes: Float[Tensor, "groups"], offsets: Float[Tensor, "groups"], active: int | Float[Tensor, ""]
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


def _group_norms(weight: Float[Tensor, "out *rest"], groups: str) -> Float[Tensor, "..."]:
    """Norms of the groups of a weight, of a shape that broadcasts with the weight."""
    if groups == "weights":
        return weight.abs()
    axis = 0 if groups == "filters" else 1
    others = [other for other in range(weight.ndim) if other != axis]
    norms: Tensor = torch.linalg.vector_norm(weight, dim=others, keepdim=True)
    return norms


def _active(norms: Float[Tensor, "..."], sparsity: Float[Tensor, ""]) -> Float[Tensor, ""]:
    """How many groups may stay."""
    groups: Tensor = norms.numel() * (1 - sparsity)
    return groups.clamp_min(1)


_REFERENCE = Reference(
    "Learning k-Level Structured Sparse Neural Networks Using Group Envelope Regularization", "2212.12921"
)
_SPARSITY = Hyperparameter("sparsity", Unit(sweep=(0.2, 0.98)), 0.8, smooth=False, shared=True)
_GROUPS = Hyperparameter(
    "groups", Choice(("filters", "channels", "weights")), "filters", online=False, smooth=False
)


@register
class GroupSparseEnvelope(Regularizer):
    """Shrinks the weights of every layer towards the share ``1 - sparsity`` of its groups.

    Groups are ``filters`` (rows), ``channels`` (columns of a linear layer), or single ``weights``.
    """

    name = "group_sparse_envelope"
    family = "structure"
    kind = "penalty"
    reference = _REFERENCE
    hyperparameters = (
        Hyperparameter("strength", Positive(sweep=(1e-5, 1.0)), 1e-3, shared=True),
        _SPARSITY,
        _GROUPS,
    )
    needs = frozenset({"parameters"})
    per_layer = True

    def penalty(self, step: Step) -> Float[Tensor, "..."]:
        sparsity = self.value_by_part(step, "sparsity")
        terms = torch.stack([self._sum(step, layers, sparsity[part]) for part, layers in self.layers.items()])
        return terms[0] if self.parts is None else terms

    def _sum(self, step: Step, layers: tuple[str, ...], sparsity: Tensor) -> Float[Tensor, ""]:
        groups = self.value(step, "groups")
        norms = [_group_norms(weight, groups).flatten() for weight in self.weights(step, layers)]
        terms = [group_sparse_envelope(n, active=_active(n, sparsity)) for n in norms]
        return torch.stack(terms).sum() if terms else step.logits.new_zeros(())


@register
class GroupSparseEnvelopeProximal(Regularizer):
    """Sets whole groups of weights to zero: the exact proximal step of ``group_sparse_envelope``.

    It follows the optimizer's step, with ``strength`` times the learning rate. Groups are ``filters`` (rows),
    ``channels`` (columns of a linear layer), or single ``weights``.
    """

    name = "group_sparse_envelope_proximal"
    family = "structure"
    kind = "proximal"
    reference = _REFERENCE
    hyperparameters = (
        Hyperparameter("strength", Positive(sweep=(1e-5, 1.0)), 1e-3, smooth=False, shared=True),
        _SPARSITY,
        _GROUPS,
    )
    needs = frozenset({"parameters", "learning_rate"})
    per_layer = True
    sparse = True

    def map_parameter(self, parameter: Tensor, step: Step, values: Mapping[str, Any]) -> Tensor:
        norms = _group_norms(parameter, values["groups"])
        factors = group_sparse_envelope_proximal(
            norms.flatten(),
            active=_active(norms, values["sparsity"]),
            strength=step.learning_rate * values["strength"],
        )
        return parameter * factors.view(norms.shape)
