"""Constants of both levels against the curvatures that solves meet on their way, at no further derivative."""

from __future__ import annotations

import math

import torch

from selftune.lower_level.smooth_objective import ConstantDisproved, Constants
from selftune.shapes import Float, Tensor

_MARGIN = 1e-6  # relative; constants are computed with rounding errors too
_ROUNDING = 100  # of quotients, in units of the type's precision


def chord(moved: Float[Tensor, "n"], turned: Float[Tensor, "n"], size: float) -> tuple[float, float, float] | None:
    """(smallest, largest, doubt): bounds of curvature between two points, by the change of the gradient there.

    With s = ``moved`` and y = ``turned`` the Hessian's mean along the way has an eigenvalue of at most s'y/s's and
    one of at least |y|/|s|; both are known up to ``doubt``.

    Args:
        size: of the terms whose difference y is, whose rounding errors it inherits.

    Returns:
        None if the points are the same.

    >>> chord(torch.tensor([2.0, 0.0]), torch.tensor([1.0, 0.0]), 1.0)[:2]
    (0.5, 0.5)
    """
    length = float(torch.linalg.vector_norm(moved))
    if length == 0:
        return None
    doubt = _ROUNDING * torch.finfo(moved.dtype).eps * size / length
    along = float(torch.dot(moved / length, turned)) / length
    return along, float(torch.linalg.vector_norm(turned)) / length, doubt


def compare(
    constants: Constants, smallest: float, largest: float, doubt: float = 0.0, where: str = "by a linear solver"
) -> Constants:
    """Given constants against curvatures of the lower level's Hessian; estimated ones give way.

    Args:
        smallest, largest: at least the smallest and at most the largest eigenvalue, as met.
        doubt: rounding errors of both.

    Returns:
        The constants: as they were if they are given; with the curvatures that were met if they are estimates.

    Raises:
        ConstantDisproved: if a given constant is wrong.
        NotStronglyConvex: if an estimated one would have to be negative.

    >>> constants = Constants(1.0, 4.0, 0.0, 0.0, 2.0, upper_convex=True, certified=True)
    >>> compare(constants, 1.5, 4.0) is constants
    True
    >>> compare(constants, 0.25, 4.0)
    Traceback (most recent call last):
    ...
    selftune.lower_level.smooth_objective.ConstantDisproved: strong_convexity is given as 1, but a ...
    """
    mu, L = constants.strong_convexity, constants.smoothness
    low, high = smallest + doubt < mu * (1 - _MARGIN), largest - doubt > L * (1 + _MARGIN)
    if not (low or high) or not (math.isfinite(smallest) and math.isfinite(largest)):
        return constants
    if constants.estimated:
        return constants.widened(smallest + doubt if low else mu, largest if high else L)
    if low:
        raise ConstantDisproved("strong_convexity", mu, smallest, where)
    raise ConstantDisproved("smoothness", L, largest, where)


def compare_products(constants: Constants, smallest: float, largest: float, like: Tensor) -> Constants:
    """``compare`` for what a linear solver met: ``largest`` 0 and ``smallest`` infinite if it met nothing."""
    if largest == 0:
        return constants
    doubt = _ROUNDING * torch.finfo(like.dtype).eps * largest
    return compare(constants, min(smallest, largest), largest, doubt)


class UpperChords:
    """The upper level's smoothness and convexity against its gradients at the points of one solve.

    >>> constants = Constants(1.0, 4.0, 0.0, 0.0, 2.0, upper_convex=True, certified=True)
    >>> upper = UpperChords(constants)
    >>> upper.met(torch.zeros(2), torch.zeros(2))
    >>> upper.met(torch.ones(2), 3 * torch.ones(2))
    Traceback (most recent call last):
    ...
    selftune.lower_level.smooth_objective.ConstantDisproved: upper_smoothness is given as 2, but a ...
    """

    def __init__(self, constants: Constants) -> None:
        self._constants = constants
        self._last: tuple[Tensor, Tensor] | None = None

    def met(self, x: Float[Tensor, "n"], gradient: Float[Tensor, "n"]) -> None:
        """A gradient of the upper level in x, at the same hyperparameters as the last one.

        Raises:
            ConstantDisproved: if a given constant is wrong.
        """
        last, self._last = self._last, (x, gradient)
        constants = self._constants
        if last is None or constants.estimated:
            return
        L = constants.upper_smoothness
        size = float(gradient.norm()) + float(last[1].norm()) + L * float(x.norm())
        seen = chord(x - last[0], gradient - last[1], size)
        if seen is None:
            return
        smallest, largest, doubt = seen
        where = "between two points of a solve"
        if largest - doubt > L * (1 + _MARGIN):
            raise ConstantDisproved("upper_smoothness", L, largest, where)
        if constants.upper_convex and smallest + doubt < -_MARGIN * L:
            raise ConstantDisproved("upper_convex", True, smallest, where)
