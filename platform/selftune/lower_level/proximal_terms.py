"""Terms of a lower level that are not smooth: norms that make zeros, and constraints, by their proximal maps.

A proximal map prox(y) = argmin_x r(x) + |x - y|^2 / (2 step) is smooth in pieces; a piece belongs to an active
set: which parameters are zero, at a bound, outside the support. Each term says how far a point is from the border
of its piece, and what a certificate needs to know of the piece.

Sources: "Implicit differentiation of Lasso-type models for hyperparameter optimization" (arXiv 2002.08943);
"Implicit Differentiation for Fast Hyperparameter Selection in Non-Smooth Convex Learning" (arXiv 2105.01637);
"Efficient and Modular Implicit Differentiation" (arXiv 2105.15183).
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol, final

import torch

from selftune.errors import SettingError
from selftune.shapes import Float, Int, Tensor

Number = Tensor | float


@dataclass(frozen=True)
class ActiveSet:
    """The smooth piece of a proximal map that holds a point, and constants near what the point is mapped to.

    On the piece the proximal map takes values on a surface, whose tangents are the same all over the piece, and
    on it the term r is smooth. The constants are upper bounds.

    Args:
        margin: distance from the point to the border of the piece, or a lower bound of it.
        free: dimension of the surface: how many directions are left to the parameters.
        jacobian_norm: spectral norm of d(grad r)/du along the surface; u the unconstrained hyperparameters.
        jacobian_lipschitz: Lipschitz constant in x of the same.
        curvature_lipschitz: Lipschitz constant in x of the Hessian of r along the surface.
        offset_norm: spectral norm of the surface's own derivative in u; zero unless it moves with u.

    >>> left, right = ActiveSet(0.5, 2, jacobian_norm=3.0), ActiveSet(0.1, 1, jacobian_norm=4.0)
    >>> joined = ActiveSet.joined([left, right])
    >>> joined.margin, joined.free, joined.jacobian_norm
    (0.1, 3, 5.0)
    """

    margin: float
    free: int
    jacobian_norm: float = 0.0
    jacobian_lipschitz: float = 0.0
    curvature_lipschitz: float = 0.0
    offset_norm: float = 0.0

    @staticmethod
    def joined(sets: Iterable[ActiveSet]) -> ActiveSet:
        """That of several terms on parameters of their own, which may share hyperparameters."""
        sets = list(sets)
        return ActiveSet(
            min((s.margin for s in sets), default=math.inf),
            sum(s.free for s in sets),
            math.hypot(*(s.jacobian_norm for s in sets)),
            math.hypot(*(s.jacobian_lipschitz for s in sets)),
            max((s.curvature_lipschitz for s in sets), default=0.0),
            math.hypot(*(s.offset_norm for s in sets)),
        )


class ProximalTerm(Protocol):
    """A convex term r of one parameter."""

    def prox(self, point: Float[Tensor, "*shape"], step: float) -> Float[Tensor, "*shape"]:
        """argmin_x r(x) + |x - point|^2 / (2 step), in torch operations that autograd follows."""
        ...

    def value(self, x: Float[Tensor, "*shape"]) -> Float[Tensor, ""]:
        """r(x), for an x that meets the constraints."""
        ...

    def active_set(self, point: Float[Tensor, "*shape"], step: float, error: float) -> ActiveSet | None:
        """The piece of ``prox`` around ``point``; constants hold within ``error`` of ``prox(point)``.

        They are asked for where the margin exceeds the error. None where nothing is known.
        """
        ...


@final
@dataclass(frozen=True)
class L1Norm:
    """``sum(strength * |x|)``: Lasso; with a quadratic penalty in the smooth part, the elastic net.

    Args:
        strength: not negative; one, or a tensor that broadcasts to the parameter.
        slope: derivative of each strength in its unconstrained coordinate, in the shape of the strength; 0 where
            it is not tuned. Of a strength that depends on several coordinates, the norm of its derivative.
            Without it no error bound is finite.

    >>> L1Norm(torch.tensor(1.0)).prox(torch.tensor([3.0, -0.5, -2.0]), step=0.5)
    tensor([ 2.5000,  0.0000, -1.5000])
    """

    strength: Number
    slope: Number | None = None

    def prox(self, point: Float[Tensor, "*shape"], step: float) -> Float[Tensor, "*shape"]:
        level = step * self.strength
        return torch.where(point.abs() > level, point - level * point.sign(), 0.0)

    def value(self, x: Float[Tensor, "*shape"]) -> Float[Tensor, ""]:
        return (self.strength * x.abs()).sum()

    def active_set(self, point: Float[Tensor, "*shape"], step: float, error: float) -> ActiveSet:
        above = point.abs() - step * self.strength
        active = above > 0
        return ActiveSet(_smallest(above.abs()), int(active.sum()), _frobenius(self.slope, active, self.strength))


@final
@dataclass(frozen=True)
class GroupNorm:
    """``sum over groups g of strength_g * |x_g|``, Euclidean norms: the group lasso.

    Args:
        strength: not negative; one, or one per group. Group sizes are the caller's: ``strength * sizes.sqrt()``.
        groups: the number of each entry's group, from 0; in the shape of the parameter.
        slope: as of ``L1Norm``.

    Raises:
        SettingError: if ``groups`` holds no whole numbers.

    >>> groups = torch.tensor([0, 0, 1])
    >>> GroupNorm(torch.tensor(1.0), groups).prox(torch.tensor([3.0, 4.0, 0.5]), step=1.0)
    tensor([2.4000, 3.2000, 0.0000])
    """

    strength: Number
    groups: Int[Tensor, "*shape"]
    slope: Number | None = None

    def __post_init__(self) -> None:
        if self.groups.dtype not in (torch.int64, torch.int32):
            raise SettingError("groups", f"must hold whole numbers, one per entry, got {self.groups.dtype}")

    def _norms(self, x: Tensor) -> Tensor:
        flat, groups = x.reshape(-1), self.groups.reshape(-1)
        squares = x.new_zeros(int(groups.max()) + 1).index_add(0, groups, flat.square())
        # the derivative of the root at zero is infinite, that of the proximal map there is zero
        return torch.where(squares > 0, squares, 1.0).sqrt() * (squares > 0)

    def prox(self, point: Float[Tensor, "*shape"], step: float) -> Float[Tensor, "*shape"]:
        norms = self._norms(point)
        level = step * self.strength
        kept = norms > level
        scale = torch.where(kept, 1 - level / torch.where(kept, norms, 1.0), 0.0)
        return point * scale[self.groups]

    def value(self, x: Float[Tensor, "*shape"]) -> Float[Tensor, ""]:
        return (self.strength * self._norms(x)).sum()

    def active_set(self, point: Float[Tensor, "*shape"], step: float, error: float) -> ActiveSet:
        above = self._norms(point) - step * self.strength  # the norm of what a group is mapped to
        active = above > 0
        norm = _frobenius(self.slope, active, self.strength)
        # along an active group |x| curves, the more the smaller |x|: its second derivative is (I - nn') / |x|,
        # the third at most 2 / sqrt(3) / |x|^2, that of the direction n = x / |x| at most 1 / |x|
        least = torch.where(active, above - error, math.inf)
        strongest = (torch.as_tensor(self.strength) * active / least.square()).max()
        tilt = 0.0 if self.slope is None or norm == 0 else _largest(torch.as_tensor(self.slope).abs() / least)
        return ActiveSet(
            _smallest(above.abs()),
            int(active[self.groups].sum()),
            norm,
            tilt,
            2 / math.sqrt(3) * float(strongest),
        )


@final
@dataclass(frozen=True)
class Box:
    """The constraint ``lower <= x <= upper``.

    Args:
        lower, upper: numbers, or tensors that broadcast to the parameter; infinite where there is no bound.
        lower_slope, upper_slope: as ``slope`` of ``L1Norm``; 0 for plain numbers.

    Raises:
        SettingError: if a lower bound is above its upper bound.

    >>> Box(0.0, math.inf).prox(torch.tensor([3.0, -0.5]), step=0.5)
    tensor([3., 0.])
    """

    lower: Number = -math.inf
    upper: Number = math.inf
    lower_slope: Number | None = None
    upper_slope: Number | None = None

    def __post_init__(self) -> None:
        if not bool((torch.as_tensor(self.lower) <= torch.as_tensor(self.upper)).all()):
            raise SettingError("lower", "must not be above upper, in any entry")

    def prox(self, point: Float[Tensor, "*shape"], step: float) -> Float[Tensor, "*shape"]:
        lower, upper = (torch.as_tensor(bound).to(point) for bound in (self.lower, self.upper))
        return torch.minimum(torch.maximum(point, lower), upper)

    def value(self, x: Float[Tensor, "*shape"]) -> Float[Tensor, ""]:
        return x.new_zeros(())

    def active_set(self, point: Float[Tensor, "*shape"], step: float, error: float) -> ActiveSet:
        low, high = point < self.lower, point > self.upper
        margin = min(_smallest((point - bound).abs()) for bound in (self.lower, self.upper))
        moves = (
            _frobenius(slope, at, bound)
            for bound, slope, at in ((self.lower, self.lower_slope, low), (self.upper, self.upper_slope, high))
        )
        return ActiveSet(margin, int((~(low | high)).sum()), offset_norm=math.hypot(*moves))


@final
@dataclass(frozen=True)
class Simplex:
    """The constraints ``x >= 0`` and ``sum(x) = total`` along the last axis.

    Args:
        total: positive; one, or one per row, in the shape of the parameter without its last axis.
        slope: as of ``L1Norm``; 0 for a plain number.

    Source: Duchi et al., "Efficient Projections onto the l1-Ball for Learning in High Dimensions", 2008.

    >>> Simplex().prox(torch.tensor([0.9, 0.5, -1.0]), step=1.0)
    tensor([0.7000, 0.3000, 0.0000])
    """

    total: Number = 1.0
    slope: Number | None = None

    def _level(self, point: Tensor) -> tuple[Tensor, Tensor]:
        """What is taken off every entry before negative ones become zero, and the size of the support."""
        total = torch.as_tensor(self.total).to(point).expand(point.shape[:-1]).unsqueeze(-1)
        ordered = point.sort(dim=-1, descending=True).values
        levels = ordered.cumsum(dim=-1) - total
        count = torch.arange(1, point.shape[-1] + 1, device=point.device).to(point)
        support = (ordered * count > levels).sum(dim=-1, keepdim=True).clamp(min=1)
        return levels.gather(-1, support - 1) / support, support

    def prox(self, point: Float[Tensor, "*shape"], step: float) -> Float[Tensor, "*shape"]:
        return (point - self._level(point)[0]).clamp(min=0)

    def value(self, x: Float[Tensor, "*shape"]) -> Float[Tensor, ""]:
        return x.new_zeros(())

    def active_set(self, point: Float[Tensor, "*shape"], step: float, error: float) -> ActiveSet:
        level, support = self._level(point)
        support = support.to(point)
        above = point - level
        inside = above > 0
        # the level moves with the support's mean: distances to the planes where an entry leaves or enters
        leave = above / (1 - 1 / support).clamp(min=0).sqrt()  # infinite for an entry on its own
        enter = -above / (1 + 1 / support).sqrt()
        moves = _frobenius(self.slope, 1 / support.squeeze(-1), self.total)
        return ActiveSet(
            _smallest(torch.where(inside, leave, enter)), round(float((support - 1).sum())), offset_norm=moves
        )


def _smallest(distances: Tensor) -> float:
    return float(distances.min()) if distances.numel() else math.inf


def _largest(sizes: Tensor) -> float:
    return float(sizes.max()) if sizes.numel() else 0.0


def _frobenius(slope: Number | None, weights: Tensor, value: Number) -> float:
    """Frobenius norm of a Jacobian with rows of norm |slope| sqrt(weight); a plain number depends on nothing."""
    if not bool((weights > 0).any()) or not isinstance(value, Tensor):
        return 0.0
    if slope is None:
        return math.inf
    return math.sqrt(float((torch.as_tensor(slope).square() * weights).sum()))
