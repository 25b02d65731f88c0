"""Hypergradients through the fixed point of a proximal gradient step, for lower levels that are not smooth.

The minimiser of h + r is x = prox(y, u), y = x - t grad_x h(x, u). With D = dprox/dy, symmetric with eigenvalues
in [0, 1], and E = dprox/du, both at y, and H, J, b of the smooth problem at x:

    dx/du = (I - D + t D H)^-1 (E - t D J).

So z = grad_u g - J'q + E'(b - H q + q/t), with q = D s and B s = D b, where

    B = D H D + (D - D^2) / t

is symmetric, and positive definite on the range of D: the directions that the active set leaves free. For the
Lasso D is the mask of the weights that are not zero, and B the Hessian of those alone.

Certificate. Let mu and L be constants of h, t = 1/L, and |x - x*| <= e. Then |y - y*| <= e as well, so y and y*
lie on the same piece of the proximal map if the border of y's piece is farther away than e: the active set of x
is the true one. On that piece r is smooth along the surface of its values, and the problem restricted to that
surface is a smooth one with Hessian B's inverse image A = H + (D^-1 - I)/t >= mu, mixed derivative
J - E_r/t - (what H makes of the surface's own motion E_n), and right side b. The bounds for smooth problems hold
with these. The residual of B s = D b takes the place of that of A q = b:

- p = b - H q + q/t solves (I - D + t H D) p = b up to (I - t H) (D b - B s), and
  |(I - D + t D H)^-1| <= 1/(t mu), so the residual moves z by at most |E/t - D J| / mu times its norm;
- q = t (D p - (D b - B s)), so it moves q by at most ((1 - t mu)/mu + t) = 1/mu times its norm.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cached_property

import torch

from selftune.errors import SettingError
from selftune.hypergradients.linear_solvers.linear_solver import Product, dot, norm
from selftune.hypergradients.oracle import Oracle
from selftune.lower_level.proximal_terms import ActiveSet
from selftune.lower_level.smooth_objective import Constants
from selftune.shapes import Float, Tensor

_ROUNDING = 16  # of a gradient and of a point, in units of eps times their scale


class ProximalStep:
    """One step x+ = prox(x - t grad_x h(x, u), u), t = 1/L, and the derivatives of its proximal map.

    If x is within e of the minimiser, so is x+, and x+ lies on the surface of its active set.

    Args:
        oracle: of a lower level with a term that is not smooth. The step costs one gradient.

    Raises:
        SettingError: if autograd cannot follow the proximal map.
        FloatingPointError: if its derivative is not finite.
    """

    def __init__(self, oracle: Oracle, x: Float[Tensor, "n"], u: Float[Tensor, "d"]) -> None:
        self._oracle, self._u = oracle, u.detach()
        constants = oracle.constants(u)
        self.length = 1 / constants.smoothness
        self.y = x.detach() - self.length * oracle.grad_x(x, u)
        self._rounding = _ROUNDING * torch.finfo(x.dtype).eps * (norm(self.y) + constants.condition * norm(x))
        with torch.enable_grad():
            self._point = self.y.clone().requires_grad_()
            self._leaf = self._u.clone().requires_grad_()
            mapped = oracle.objective.proximal(
                oracle.unravel(self._point), oracle.space.values(self._leaf), self.length
            )
            assert mapped is not None
            self._mapped = oracle.ravel(mapped)
        self.x = self._mapped.detach()
        """x+."""
        self._check()

    def _check(self) -> None:
        pulled = self._pull(self._point, self.y)
        if pulled is not None and not bool(torch.isfinite(pulled).all()):
            raise FloatingPointError(
                "the derivative of the proximal map is not finite; mind norms and quotients at zero"
            )
        if pulled is None:
            raise SettingError(
                "proximal",
                "autograd cannot follow the proximal map from what it is applied to; write it in torch operations,"
                " or as a torch.autograd.Function that brings its derivative",
            )
        if not self.moves:
            ahead = self._oracle.prox(self.y, self._u + 1e-3, self.length)
            if ahead is None or not torch.equal(ahead, self.x):
                raise SettingError(
                    "proximal",
                    "depends on the hyperparameters in a way that autograd cannot follow, such as float() or"
                    " .detach(); take their tensors as they are",
                )

    def _pull(self, leaf: Tensor, v: Tensor) -> Tensor | None:
        if not self._mapped.requires_grad:
            return None
        return torch.autograd.grad(self._mapped, leaf, v, retain_graph=True, allow_unused=True)[0]

    @cached_property
    def moves(self) -> bool:
        """Whether the proximal map itself depends on tuned hyperparameters."""
        return bool(len(self._leaf)) and self._pull(self._leaf, self.y) is not None

    def D(self, v: Float[Tensor, "n"]) -> Float[Tensor, "n"]:
        """Dv."""
        pulled = self._pull(self._point, v)
        assert pulled is not None
        return pulled

    def ET(self, p: Float[Tensor, "n"]) -> Float[Tensor, "d"]:
        """E'p."""
        pulled = self._pull(self._leaf, p) if self.moves else None
        return torch.zeros_like(self._leaf) if pulled is None else pulled

    def active_set(self, error: float) -> ActiveSet | None:
        """The piece of the proximal map that holds y, as far as the objective knows it."""
        return self._oracle.active_set(self.y, self._u, self.length, error)

    def identifies(self, error: float) -> bool:
        """Whether the minimiser has this active set, if x was within ``error`` of it; rounding is allowed for.

        Granted the constants mu and L. Never where the objective knows no distance to the border of the piece.
        """
        active = self.active_set(error)
        return active is not None and active.margin > error + self._rounding


@dataclass
class ProximalSystem:
    """B s = D b of a proximal step at the hyperparameters u; products with B cost one with H each."""

    step: ProximalStep
    hvp: Product
    """H at ``step.x``."""
    smallest_curvature: float = math.inf
    """The smallest w'Hw / w'w met: at least the smallest eigenvalue of H."""
    largest_curvature: float = 0.0
    """The largest ‖Hw‖ / ‖w‖ met: at most the largest one."""

    def product(self, v: Float[Tensor, "n"]) -> Float[Tensor, "n"]:
        """Bv."""
        w = self.step.D(v)
        turned = self.hvp(w)
        if (square := dot(w, w)) > 0:
            self.smallest_curvature = min(self.smallest_curvature, dot(w, turned) / square)
            self.largest_curvature = max(self.largest_curvature, norm(turned) / math.sqrt(square))
        return self.step.D(turned + (v - w) / self.step.length)

    def by_prox(self, q: Float[Tensor, "n"], b: Float[Tensor, "n"]) -> Float[Tensor, "d"]:
        """E'(b - H q + q/t): the hyperparameters' effect through the proximal map itself."""
        if not self.step.moves:
            return self.step.ET(b)
        return self.step.ET(b - self.hvp(q) + q / self.step.length)


def on_the_surface(
    constants: Constants, norm_J: float, e: float, active: ActiveSet
) -> tuple[Constants, float, float]:
    """(constants, norm of the mixed derivative, error of x) of the smooth problem along the active set's surface.

    Where no direction is free, x is what the constraints say: it has no error.

    >>> smooth = Constants(1.0, 4.0, 0.5, 0.0, 2.0, upper_convex=True, certified=True)
    >>> on_the_surface(smooth, 3.0, 0.1, ActiveSet(1.0, free=2, jacobian_norm=1.0, offset_norm=0.5))[1:]
    (6.0, 0.1)
    """
    moved = active.offset_norm
    along = replace(
        constants,
        hessian_lipschitz=constants.hessian_lipschitz + active.curvature_lipschitz,
        jacobian_lipschitz=constants.jacobian_lipschitz
        + active.jacobian_lipschitz
        + constants.hessian_lipschitz * moved,
        upper_mixed_smoothness=constants.upper_mixed_smoothness + constants.upper_smoothness * moved,
    )
    norm_J += active.jacobian_norm + constants.smoothness * moved
    return along, norm_J, e if active.free else 0.0
