"""What every lower-level solver takes and returns: a point, and a bound of its distance to the minimiser."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, Protocol

import torch

from selftune.errors import SettingError
from selftune.hypergradients.curvature import chord, compare, compare_products
from selftune.hypergradients.linear_solvers.linear_solver import LinearSystem
from selftune.hypergradients.oracle import Oracle
from selftune.lower_level.smooth_objective import Constants
from selftune.shapes import Float, Tensor

Reason = Literal["tolerance", "cap", "floor", "rejected"]

Reject = Callable[[Tensor, float], bool]
"""(x, e) -> whether a point at distance at most e of the minimiser shows that the solve has become useless."""

MAX_ITERATIONS = 20_000

_ROUNDING = 450


@dataclass(frozen=True)
class LowerSolution:
    """An approximate minimiser of the lower level and what is proven about it."""

    x: Float[Tensor, "n"]
    error: float
    """‖gradient‖ / mu at this ``x``: by strong convexity a bound of the distance to the minimiser."""
    gradient: Float[Tensor, "n"]
    """Gradient of h at this ``x``; with a proximal term the subgradient behind ``error``."""
    iterations: int
    """Gradients and Hessian products spent."""
    reason: Reason
    """``tolerance``: the error meets it. ``cap``: iterations ran out. ``floor``: rounding allows no smaller
    gradient. ``rejected``: the caller's test ended the solve early."""


class LowerSolver(Protocol):
    """Minimises h(., u) until the certificate ``‖grad_x h‖ / mu <= tolerance`` holds."""

    def solve(
        self,
        oracle: Oracle,
        u: Float[Tensor, "d"],
        start: Float[Tensor, "n"],
        tolerance: float,
        max_iterations: int = MAX_ITERATIONS,
        reject: Reject | None = None,
    ) -> LowerSolution:
        """A point with its achieved error, met tolerance or not.

        The result depends on the arguments only. ``max_iterations`` caps gradients and Hessian products
        together; a step under way is finished, at the cost of up to two more. ``reject`` is asked at the start
        and whenever the error has fallen by a third.

        Raises:
            SettingError: if the tolerance is not a positive number, there is no iteration to spend, or the lower
                level has a term that is not smooth and the solver cannot take its proximal map.
            NotStronglyConvex, NegativeCurvature: if the lower level is not strongly convex.
            ConstantDisproved: if the solve meets a curvature that a given constant excludes.
            FloatingPointError: if a gradient is not finite.
        """
        ...


class Certificate:
    """One solve's stopping rule: measures the error at every gradient, remembers the best point.

    Args:
        proximal: whether the solver takes proximal maps.

    Raises:
        SettingError, NotStronglyConvex: as ``LowerSolver.solve``.
    """

    def __init__(
        self,
        oracle: Oracle,
        u: Float[Tensor, "d"],
        start: Float[Tensor, "n"],
        tolerance: float,
        max_iterations: int,
        reject: Reject | None,
        proximal: bool = False,
    ) -> None:
        if not (tolerance > 0 and math.isfinite(tolerance)):
            raise SettingError("tolerance", f"must be a positive number, got {tolerance}; rounding forbids zero")
        if max_iterations < 1:
            raise SettingError("max_iterations", f"must be at least 1, got {max_iterations}")
        if not proximal and oracle.nonsmooth:
            raise SettingError(
                "solver", "the lower level has a term that is not smooth; solve it with proximal_gradient"
            )
        self.constants = oracle.constants(u)
        self._smooth = not oracle.nonsmooth
        self._last: tuple[Tensor, Tensor] | None = None
        self.tolerance = tolerance
        self._max_iterations = max_iterations
        self._reject = reject
        self._oracle, self._u, self._before = oracle, u, oracle.counts.copy()
        self._best: tuple[float, Tensor, Tensor] | None = None
        self._asked = math.inf
        self._stalled = (math.inf, 0)  # error when it last halved, measurements since then

    @property
    def mu(self) -> float:
        """The strong convexity; an estimate shrinks to what was met."""
        return self.constants.strong_convexity

    @property
    def L(self) -> float:
        """The smoothness; an estimate grows to what was met."""
        return self.constants.smoothness

    @property
    def iterations(self) -> int:
        """Gradients and Hessian products spent so far."""
        spent = self._oracle.counts - self._before
        return spent.grad + spent.hvp

    @property
    def left(self) -> int:
        return self._max_iterations - self.iterations

    def reached(self, x: Float[Tensor, "n"], gradient: Float[Tensor, "n"]) -> LowerSolution | None:
        """The solution if the solve ends with this point, whose (sub)gradient was measured; None to go on."""
        size = norm(gradient)
        self._compare(x, gradient, size)
        error = size / self.mu
        if self._best is None or error < self._best[0]:
            self._best = (error, x, gradient)
        if error <= self.tolerance:
            return self.solution("tolerance")
        if self._at_floor(x, size):
            return self.solution("floor")
        if self._reject is not None and error < 2 / 3 * self._asked:
            self._asked = error
            if self._reject(x, error):
                self._best = (error, x, gradient)
                return self.solution("rejected")
        return self.solution("cap") if self.left <= 0 else None

    def met(self, system: LinearSystem) -> None:
        """Compares the constants with the curvatures that a linear solver met.

        Raises:
            ConstantDisproved: if one that is given is wrong.
        """
        self._take(compare_products(self.constants, system.smallest_curvature, system.largest_curvature, system.b))

    def _compare(self, x: Tensor, gradient: Tensor, size: float) -> None:
        """The same with the change of the gradient since the last measured point."""
        last, self._last = self._last, (x, gradient)
        if last is None:
            return
        terms = size + norm(last[1]) + self.L * float(torch.linalg.vector_norm(x))
        seen = chord(x - last[0], gradient - last[1], terms)
        if seen is not None:
            smallest, largest, doubt = seen
            # subgradients of a term that is not smooth jump, but never back
            largest = largest if self._smooth else self.mu
            self._take(compare(self.constants, smallest, largest, doubt, "between two points of a solve"))

    def _take(self, constants: Constants) -> None:
        if constants is self.constants:
            return
        if self._best is not None:
            error, x, gradient = self._best
            self._best = (error * self.mu / constants.strong_convexity, x, gradient)
        self.constants = constants
        self._oracle.settle(self._u, constants)

    def floor(self, x: Float[Tensor, "n"]) -> float:
        """Size of a gradient at x near which rounding may hide all progress: 1e-13 L |x| in float64."""
        return _ROUNDING * torch.finfo(x.dtype).eps * self.L * float(torch.linalg.vector_norm(x))

    def _at_floor(self, x: Tensor, size: float) -> bool:
        # near the floor a solver goes on while it makes progress at its usual pace
        floor = self.floor(x)
        error, since = self._stalled
        halved = size / self.mu <= error / 2
        self._stalled = (size / self.mu, 0) if halved else (error, since + 1)
        stalled = self._stalled[1] > 10 + 2 * math.sqrt(self.L / self.mu)
        return size <= floor / _ROUNDING or (stalled and size <= floor)

    def solution(self, reason: Reason) -> LowerSolution:
        """The best point so far."""
        assert self._best is not None
        error, x, gradient = self._best
        return LowerSolution(x, error, gradient, self.iterations, reason)


def norm(gradient: Float[Tensor, "n"]) -> float:
    """‖gradient‖.

    Raises:
        FloatingPointError: if it is not finite.
    """
    size = float(torch.linalg.vector_norm(gradient))
    if not math.isfinite(size):
        raise FloatingPointError(
            "the gradient of the lower level is not finite: the start or a hyperparameter is too large"
        )
    return size
