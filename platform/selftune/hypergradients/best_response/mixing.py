"""What gates see of thousands of hyperparameters: a few mixed coordinates, and every row its own ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import torch

from selftune.shapes import Float, Int, Tensor


@dataclass(frozen=True)
class Mixing:
    """Coordinates z = M h of n hyperparameters, fixed ones, and which hyperparameters are a row's own.

    Full gates V are a matrix of rows times n. These are V = own + U M: a row has an entry for each hyperparameter
    of its own (mostly the strength of its own unit), and one for each of k coordinates. Members of a small family
    are coordinates themselves. Members of a larger one are dealt at random, always in the same way, to a few, each
    with a random sign; a coordinate is their sum over the root of their number. Signs make what the members of a
    coordinate take from each other noise of mean zero; without them it would be a bias.

    Args:
        families: sizes of the hyperparameters, in the order of their columns.
        coordinates: of a family that is mixed.
        separate: the largest family that is not.
        own: columns of the hyperparameters that are the rows' own, -1 for none, by the name of the tensor.

    Source: random signs are those of "Feature Hashing for Large Scale Multitask Learning" (arXiv 0902.2206).

    >>> mixing = Mixing(families=(1, 60), coordinates=2)
    >>> mixing.hyperparameters, mixing.width, mixing.of_columns.bincount().tolist()
    (61, 3, [1, 30, 30])
    """

    families: Sequence[int]
    coordinates: int = 4
    separate: int = 16
    own: Mapping[str, Int[Tensor, "rows own"]] = field(default_factory=dict)

    @property
    def hyperparameters(self) -> int:
        return sum(self.families)

    @property
    def width(self) -> int:
        """How many coordinates there are."""
        return sum(map(self._width_of, self.families))

    def _width_of(self, size: int) -> int:
        return size if size <= max(self.separate, self.coordinates) else self.coordinates

    @cached_property
    def of_columns(self) -> Int[Tensor, "n"]:
        """The coordinate of every hyperparameter."""
        return self._dealt[0]

    @cached_property
    def factors(self) -> Float[Tensor, "n"]:
        """The factor of every hyperparameter in its coordinate."""
        index, signs = self._dealt
        return signs * index.bincount(minlength=self.width).to(torch.float64).rsqrt()[index]

    @cached_property
    def _dealt(self) -> tuple[Int[Tensor, "n"], Float[Tensor, "n"]]:
        """Coordinates and signs."""
        generator = torch.Generator().manual_seed(0)
        index, signs, first = [], [], 0
        for size in self.families:
            width = self._width_of(size)
            is_mixed = size > width
            order = torch.randperm(size, generator=generator) if is_mixed else torch.arange(size)
            index.append(first + order % width)
            drawn = torch.randint(2, (size,), generator=generator) if is_mixed else torch.ones(size)
            signs.append(2 * drawn.to(torch.float64) - 1)
            first += width
        return torch.cat(index), torch.cat(signs)

    def mixed(self, h: Float[Tensor, "batch n"]) -> Float[Tensor, "batch k"]:
        """M h."""
        index, factors = self._on(h)
        return torch.zeros(len(h), self.width, dtype=h.dtype, device=h.device).index_add(1, index, h * factors)

    def unmixed(self, gradient: Float[Tensor, "k"]) -> Float[Tensor, "n"]:
        """M' of a gradient with respect to coordinates: that with respect to hyperparameters."""
        index, factors = self._on(gradient)
        return gradient[index] * factors

    def own_columns(self, rows: Mapping[str, int]) -> Int[Tensor, "all own"]:
        """The own columns of all rows, one tensor after the other.

        Args:
            rows: how many gates each tensor has: as many times its rows as it has directions.
        """
        most = max((columns.shape[1] for columns in self.own.values()), default=0)
        result = []
        for name, number in rows.items():
            columns = torch.full((number, most), -1)
            if name in self.own:
                own = self.own[name]
                columns[:, : own.shape[1]] = own.repeat(number // len(own), 1)
            result.append(columns)
        return torch.cat(result)

    def _on(self, like: Tensor) -> tuple[Tensor, Tensor]:
        """Coordinates and factors where ``like`` lives."""
        kept: dict[tuple[torch.device, torch.dtype], tuple[Tensor, Tensor]] = self.__dict__.setdefault("_kept", {})
        key = like.device, like.dtype
        if key not in kept:
            kept[key] = self.of_columns.to(like.device), self.factors.to(like)
        return kept[key]
