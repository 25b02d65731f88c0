"""Closed convex sets and the nearest points in them: where hyperparameters are allowed to be."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from selftune.errors import SettingError
from selftune.fields import check_fields
from selftune.shapes import Float, Tensor

Entries = float | tuple[float, ...]
"""One number for all entries of a vector, or one for each."""


@dataclass(frozen=True)
class Box:
    """Vectors with ``low <= u <= high`` in every entry; the nearest one clips.

    Args:
        low, high: one number or one per entry; infinite where there is no limit.

    Raises:
        SettingError: if the box is empty.

    >>> Box(low=-1.0, high=(0.5, 2.0))(torch.tensor([3.0, -3.0]))
    tensor([ 0.5000, -1.0000])
    """

    low: Entries = -math.inf
    high: Entries = math.inf

    def __post_init__(self) -> None:
        check_fields(self)
        low, high = _tuple(self.low), _tuple(self.high)
        if 1 not in (len(low), len(high)) and len(low) != len(high):
            raise SettingError("high", f"has {len(high)} entries, but low has {len(low)}; give as many of both")
        count = max(len(low), len(high))
        low, high = (side * count if len(side) == 1 else side for side in (low, high))
        if not all(a <= b for a, b in zip(low, high, strict=True)):
            raise SettingError("high", f"must be at least low, got low {self.low} and high {self.high}")

    def __call__(self, u: Float[Tensor, "n"]) -> Float[Tensor, "n"]:
        return torch.clamp(u, _like(u, self.low, "low"), _like(u, self.high, "high"))


@dataclass(frozen=True)
class Ball:
    """Vectors at Euclidean distance at most ``radius`` from ``center``; the nearest one lies on the way there.

    Args:
        radius: positive.
        center: one number or one per entry.

    Raises:
        SettingError: if the radius is not positive or the center not finite.

    >>> Ball(radius=1.0)(torch.tensor([3.0, 4.0]))
    tensor([0.6000, 0.8000])
    """

    radius: float
    center: Entries = 0.0

    def __post_init__(self) -> None:
        check_fields(self)
        if not (self.radius > 0 and math.isfinite(self.radius)):
            raise SettingError("radius", f"must be a positive number, got {self.radius}")
        if not all(map(math.isfinite, _tuple(self.center))):
            raise SettingError("center", f"must be finite, got {self.center}")

    def __call__(self, u: Float[Tensor, "n"]) -> Float[Tensor, "n"]:
        center = _like(u, self.center, "center")
        offset = u - center
        distance = torch.linalg.vector_norm(offset)
        return torch.where(distance > self.radius, center + offset * (self.radius / distance), u)


@dataclass(frozen=True)
class Simplex:
    """Vectors of numbers of at least 0 that sum to ``total``, in every group of ``group`` neighbouring entries.

    Args:
        total: positive.
        group: entries per group; None makes one group of all.

    Raises:
        SettingError: if the total is not positive or a group is empty; when called, if groups do not fill the
            vector.

    Source: "Efficient Projections onto the l1-Ball for Learning in High Dimensions" (Duchi et al., 2008).

    >>> Simplex()(torch.tensor([0.5, 0.9, -1.0]))
    tensor([0.3000, 0.7000, 0.0000])
    """

    total: float = 1.0
    group: int | None = None

    def __post_init__(self) -> None:
        check_fields(self)
        if not (self.total > 0 and math.isfinite(self.total)):
            raise SettingError("total", f"must be a positive number, got {self.total}")
        if self.group is not None and self.group < 1:
            raise SettingError("group", f"must be at least 1, got {self.group}")

    def __call__(self, u: Float[Tensor, "n"]) -> Float[Tensor, "n"]:
        size = self.group or len(u)
        if len(u) % size:
            raise SettingError("group", f"must divide the number of hyperparameters, {len(u)}, got {size}")
        rows = u.view(-1, size)
        descending = rows.sort(dim=1, descending=True).values
        excess = descending.cumsum(dim=1) - self.total
        ranks = torch.arange(1, size + 1, device=u.device)
        positive = (descending * ranks > excess).sum(dim=1, keepdim=True)
        threshold = excess.gather(1, positive - 1) / positive
        return (rows - threshold).clamp_min(0).view(-1)


Projection = Box | Ball | Simplex


def _tuple(entries: Entries) -> tuple[float, ...]:
    return entries if isinstance(entries, tuple) else (entries,)


def _like(u: Tensor, entries: Entries, key: str) -> Tensor:
    count = len(_tuple(entries))
    if count not in (1, len(u)):
        raise SettingError(
            key, f"has {count} entries, but {len(u)} hyperparameters are tuned; give one or {len(u)}"
        )
    return torch.as_tensor(entries, dtype=u.dtype, device=u.device)
