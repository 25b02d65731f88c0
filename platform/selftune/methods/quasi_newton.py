"""Limited-memory quasi-Newton directions from hypergradients along the way."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch

from selftune.shapes import Bool, Float, Tensor
from selftune.storage.state_tree import record

_CURVED = 1e-8  # smallest cosine between a step and the change of the hypergradient that is remembered


@record
@dataclass
class QuasiNewton:
    """Pairs of steps and changes of the hypergradient; those that prove positive curvature are remembered.

    Args:
        memory: pairs kept, at least 1.

    >>> curvature = QuasiNewton(memory=2)
    >>> curvature.step_from(torch.zeros(2), torch.tensor([2.0, 8.0]))
    >>> curvature.observe(torch.tensor([-1.0, 0.0]), torch.tensor([1.0, 8.0]))
    True
    >>> curvature.barzilai_borwein()
    1.0
    """

    memory: int
    pairs: list[tuple[Tensor, Tensor]] = field(default_factory=list)
    last: tuple[Tensor, Tensor] | None = None
    """Where the last step started, and the hypergradient there."""
    fresh: bool = False
    """Whether the last pair belongs to the last step."""

    def step_from(self, u: Float[Tensor, "d"], z: Float[Tensor, "d"]) -> None:
        """A step was taken from u, along which the hypergradient z was seen."""
        self.last, self.fresh = (u, z), False

    def observe(self, u: Float[Tensor, "d"], z: Float[Tensor, "d"]) -> bool | None:
        """The hypergradient where the last step ended; a sharper one replaces a looser one.

        Returns:
            Whether the upper level curves upwards along that step; None before the first step.
        """
        if self.last is None:
            return None
        if self.fresh:
            self.pairs.pop()
        moved, turned = u - self.last[0], z - self.last[1]
        self.fresh = float(moved @ turned) > _CURVED * float(moved.norm() * turned.norm())
        if self.fresh:
            self.pairs = [*self.pairs, (moved, turned)][-self.memory :]
        return self.fresh

    def forget(self) -> None:
        """The hypergradients were misleading: starts anew."""
        self.pairs, self.last, self.fresh = [], None, False

    def barzilai_borwein(self) -> float | None:
        """The step that the last pair suggests along the hypergradient; None before the first pair.

        Source: Barzilai and Borwein, "Two-point step size gradient methods", 1988.
        """
        if not self.pairs:
            return None
        moved, turned = self.pairs[-1]
        return float(moved @ moved) / float(moved @ turned)

    def direction(self, z: Float[Tensor, "d"]) -> Float[Tensor, "d"]:
        """The inverse Hessian's estimate times z, by the two-loop recursion; needs a pair.

        Source: Nocedal and Wright, "Numerical Optimization", 2006, algorithm 7.4.
        """
        p, weights = z, []
        for moved, turned in reversed(self.pairs):
            weights.append(float(moved @ p) / float(moved @ turned))
            p = p - weights[-1] * turned
        moved, turned = self.pairs[-1]
        p = p * (float(moved @ turned) / float(turned @ turned))
        for (moved, turned), weight in zip(self.pairs, reversed(weights), strict=True):
            p = p + moved * (weight - float(turned @ p) / float(moved @ turned))
        return p


def between(p: Float[Tensor, "d"], steepest: Float[Tensor, "d"], where: Bool[Tensor, "d"]) -> Float[Tensor, "d"]:
    """``p`` with the coordinates of a mask held between zero and those of ``steepest``.

    On a logarithmic scale the upper level flattens far away. There the pairs, which mix coordinates, make a
    quasi-Newton direction drift along coordinates without a gradient of their own.

    >>> everywhere = torch.tensor([True, True, True])
    >>> between(torch.tensor([3.0, -1.0, -1.0]), torch.tensor([2.0, 2.0, -2.0]), everywhere)
    tensor([ 2.,  0., -1.])
    """
    held = torch.minimum(torch.maximum(p, steepest.clamp(max=0)), steepest.clamp(min=0))
    return torch.where(where, held, p)
