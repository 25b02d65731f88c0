"""Intervals that hold the upper level at an inexact lower-level solution, with and without an adjoint correction."""

from __future__ import annotations

import math
from dataclasses import dataclass

from selftune.hypergradients.error_bounds import lower_bound, upper_bound
from selftune.shapes import Float, Tensor
from selftune.smooth_objective import Constants


@dataclass(frozen=True)
class Interval:
    """``lower <= f(u) <= upper``.

    >>> (Interval(1.0, 3.0) & Interval(2.0, 4.0)).width
    1.0
    """

    lower: float
    upper: float

    @property
    def width(self) -> float:
        return self.upper - self.lower

    def __and__(self, other: Interval) -> Interval:
        """What is left where both hold."""
        return Interval(max(self.lower, other.lower), min(self.upper, other.upper))


def plain_interval(g: float, norm_b: float, e: float, constants: Constants) -> Interval:
    """From the distance to the minimiser alone; first order in it."""
    return Interval(lower_bound(g, norm_b, e, constants), upper_bound(g, norm_b, e, constants))


def corrected_interval(
    g: float,
    q: Float[Tensor, "n"],
    gradient: Float[Tensor, "n"],
    e: float,
    residual: float,
    constants: Constants,
) -> Interval:
    """g - q'grad_x h plus or minus residual e + (L_g + L_H ‖q‖) e²/2, without L_g below where g is convex.

    ``q`` solves H q = grad_x g at x to a ``residual``, ``gradient`` is grad_x h there. Expanding g and grad_x h from
    x to the minimiser, a distance d <= e away, gives f - (g - q'grad_x h) = -(H q - b)'d - q'R + S with
    ‖R‖ <= L_H e²/2 and S <= L_g e²/2. The first-order effect of x not being the minimiser is gone: a
    solution many times looser gives an interval of the same width.
    """
    center = g - float(q @ gradient)
    bent = constants.hessian_lipschitz * float(q.norm())
    below = residual * e + (bent + (0.0 if constants.upper_convex else constants.upper_smoothness)) * e**2 / 2
    return Interval(center - below, center + residual * e + (bent + constants.upper_smoothness) * e**2 / 2)


def loosest_error(gap: float, norm_q: float, residual: float, constants: Constants) -> float:
    """The error with which the corrected interval reaches ``gap`` above its center.

    >>> constants = Constants(1.0, 2.0, 0.0, 0.0, 2.0, upper_convex=True, certified=True)
    >>> loosest_error(gap=0.25, norm_q=1.0, residual=0.0, constants=constants)
    0.5
    """
    bent = constants.hessian_lipschitz * norm_q + constants.upper_smoothness
    return 2 * gap / (residual + math.sqrt(residual**2 + 2 * bent * gap))
