"""Bounds of the error of an inexact hypergradient, and of the upper level at an inexact lower-level solution.

Notation: x is within e of the lower level's minimiser; q solves H q = b to a residual delta; z = grad_u g - J'q.
H, J, b = grad_x g are at x; mu, L_H, L_J, L_g are constants of the objective. The bounds are theorems where the
constants are proven; with estimated ones they are estimates and ``certified`` is False.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch

from selftune.errors import SettingError
from selftune.hypergradients.implicit import Hypergradient, shifted_hypergradient
from selftune.hypergradients.linear_solvers.linear_solver import norm
from selftune.hypergradients.oracle import Oracle
from selftune.hypergradients.proximal import on_the_surface
from selftune.lower_level.smooth_objective import Constants
from selftune.shapes import Float, Tensor


def paper_bound(e: float, delta: float, norm_b: float, norm_J: float, constants: Constants) -> float:
    """omega = c e + (‖J‖/mu) delta + (L_J L_g/mu) e² + L_gu e >= ‖z - grad f‖.

    c = L_g ‖J‖/mu + L_H ‖b‖ ‖J‖/mu² + L_J ‖b‖/mu. The last term is there where g depends on u.

    Source: "An adaptively inexact first-order method for bilevel optimization with application to hyperparameter
    learning" (arXiv 2308.10098), theorem 2.1.

    >>> constants = Constants(1.0, 2.0, 0.0, 0.0, 3.0, upper_convex=True, certified=True)
    >>> paper_bound(e=0.1, delta=0.2, norm_b=1.0, norm_J=2.0, constants=constants)
    1.0
    """
    mu, L_g = constants.strong_convexity, constants.upper_smoothness
    L_H, L_J = constants.hessian_lipschitz, constants.jacobian_lipschitz
    c = L_g * norm_J / mu + L_H * norm_b * norm_J / mu**2 + L_J * norm_b / mu
    return c * e + norm_J / mu * delta + L_J * L_g / mu * e**2 + constants.upper_mixed_smoothness * e


def tighter_bound(e: float, delta: float, norm_q: float, norm_J: float, constants: Constants) -> float:
    """omega = ‖J‖ D + L_J e (‖q‖ + D) + L_gu e >= ‖z - grad f‖, D = [delta + e (L_g + L_H (‖q‖ + delta/mu))]/mu.

    With q* = H*^-1 b* at the minimiser, ‖q - q*‖ <= D, and z - grad f = -J'(q - q*) - (J - J*)'q* (plus the change
    of grad_u g). The computed ‖q‖ replaces ‖b‖/mu of the paper's bound: usually smaller, not always.

    >>> constants = Constants(1.0, 2.0, 0.0, 0.0, 3.0, upper_convex=True, certified=True)
    >>> tighter_bound(e=0.1, delta=0.2, norm_q=1.0, norm_J=2.0, constants=constants)
    1.0
    """
    mu, L_g = constants.strong_convexity, constants.upper_smoothness
    L_H, L_J = constants.hessian_lipschitz, constants.jacobian_lipschitz
    D = (delta + e * (L_g + L_H * (norm_q + delta / mu))) / mu
    return norm_J * D + L_J * e * (norm_q + D) + constants.upper_mixed_smoothness * e


@dataclass(frozen=True)
class ErrorBound:
    """Bounds of ‖z - grad f‖; ``omega`` is the smaller of the two."""

    paper: float
    tighter: float
    certified: bool
    """Whether the bounds are proven: the constants are, and the active set is identified."""
    by_residual: float = math.nan
    """The part of a bound that a smaller residual takes away."""
    identified: bool = True
    """Whether the minimiser's active set is known, granted the constants; a smooth lower level has none."""

    @property
    def omega(self) -> float:
        """The bound to use: both hold, so their minimum does."""
        return min(self.paper, self.tighter)


def error_bound(
    oracle: Oracle, x: Float[Tensor, "n"], u: Float[Tensor, "d"], e: float, hypergradient: Hypergradient
) -> ErrorBound:
    """The bounds at the achieved accuracies: ``e`` of x and the hypergradient's residual.

    Where the objective's constants are estimates the oracle estimates L_H and L_J here, at the cost of a few
    products.

    With a term that is not smooth the bounds hold if the active set of x is the minimiser's: if the distance to
    the border of its piece exceeds e. Where it does not, they are infinite. Where the objective knows no such
    distance, they are an estimate: twice the change of the hypergradient at distance e in a random direction.

    Raises:
        SettingError: if e is negative or not a number.

    >>> from selftune.objectives.tasks.quadratic_bilevel import QuadraticBilevel
    >>> from selftune.hypergradients.implicit import implicit_hypergradient
    >>> from selftune.hypergradients.linear_solvers import ConjugateGradient
    >>> import torch
    >>> problem = QuadraticBilevel(parameter_count=4, hyperparameter_count=2)
    >>> oracle, u = Oracle(problem), torch.zeros(2, dtype=torch.float64)
    >>> x = problem.response(u) + 0.01
    >>> z = implicit_hypergradient(oracle, x, u, ConjugateGradient(), tolerance=0.1)
    >>> bool((z.value - problem.hypergradient(u)).norm() <= error_bound(oracle, x, u, 0.02, z).omega)
    True
    """
    if not e >= 0:
        raise SettingError("e", f"the error of x must be a number of at least 0, got {e}")
    step = hypergradient.step
    active = None if step is None else step.active_set(e)
    if step is not None:
        if active is None:
            return _estimated(oracle, u, e, hypergradient)
        if not step.identifies(e):
            return ErrorBound(math.inf, math.inf, certified=False, identified=False)
        x = step.x
    constants = oracle.constants(u)
    if not constants.certified:
        L_H, L_J = oracle.lipschitz(x, u, hypergradient.q, e)
        constants = replace(constants, hessian_lipschitz=L_H, jacobian_lipschitz=L_J)
    norm_J = oracle.norm_J(x, u)
    if active is not None:
        constants, norm_J, e = on_the_surface(constants, norm_J, e, active)
    delta = hypergradient.residual
    return ErrorBound(
        paper_bound(e, delta, norm(hypergradient.b), norm_J, constants),
        tighter_bound(e, delta, norm(hypergradient.q), norm_J, constants),
        constants.certified,
        norm_J / constants.strong_convexity * delta,
    )


def _estimated(oracle: Oracle, u: Tensor, e: float, hypergradient: Hypergradient) -> ErrorBound:
    # always the same direction: a resumed search must see the same estimate
    direction = torch.randn(oracle.n, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    shift = (max(e, 1e-6) * direction / direction.norm()).to(hypergradient.b)
    change = 2 * norm(shifted_hypergradient(oracle, u, hypergradient, shift) - hypergradient.value)
    return ErrorBound(change, change, certified=False, identified=False)


def upper_bound(g: float, norm_b: float, e: float, constants: Constants) -> float:
    """U+ = g(x) + ‖grad_x g(x)‖ e + L_g e²/2 >= f(u).

    Source: "An adaptively inexact first-order method for bilevel optimization with application to hyperparameter
    learning" (arXiv 2308.10098), lemma 3.5.
    """
    return g + norm_b * e + constants.upper_smoothness * e**2 / 2


def lower_bound(g: float, norm_b: float, e: float, constants: Constants) -> float:
    """U- = g(x) - ‖grad_x g(x)‖ e - L_g e²/2 <= f(u), without the last term where g is convex in x.

    Source: "An adaptively inexact first-order method for bilevel optimization with application to hyperparameter
    learning" (arXiv 2308.10098), lemma 3.5 and remark 3.6.
    """
    curvature = 0.0 if constants.upper_convex else constants.upper_smoothness
    return g - norm_b * e - curvature * e**2 / 2
