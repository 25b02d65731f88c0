"""Limited-memory BFGS, handed over to Newton where function values have no digits left."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import final

import torch

from selftune.errors import SettingError
from selftune.hypergradients.lower_solvers.lower_solver import MAX_ITERATIONS, Certificate, LowerSolution, Reject
from selftune.hypergradients.lower_solvers.newton import iterate
from selftune.hypergradients.oracle import Oracle
from selftune.shapes import Float, Tensor


@final
@dataclass(frozen=True)
class LimitedMemoryBFGS:
    """Quasi-Newton steps from the last ``memory`` changes of the gradient, with backtracking on values of h.

    The decrease of h per step falls with the square of the gradient: once it is at rounding level the search is
    blind, and Newton steps finish the solve.

    Raises:
        SettingError: if the memory is less than 1.

    Source: Nocedal and Wright, "Numerical Optimization", 2006, algorithm 7.5.

    >>> from selftune.objectives.tasks.quadratic_bilevel import QuadraticBilevel
    >>> oracle = Oracle(QuadraticBilevel(parameter_count=4, hyperparameter_count=2))
    >>> LimitedMemoryBFGS().solve(oracle, oracle.start_u(), oracle.start_x(), tolerance=1e-6).reason
    'tolerance'
    """

    memory: int = 10

    def __post_init__(self) -> None:
        if self.memory < 1:
            raise SettingError("memory", f"must be at least 1, got {self.memory}")

    def solve(
        self,
        oracle: Oracle,
        u: Float[Tensor, "d"],
        start: Float[Tensor, "n"],
        tolerance: float,
        max_iterations: int = MAX_ITERATIONS,
        reject: Reject | None = None,
    ) -> LowerSolution:
        """See ``LowerSolver.solve``."""
        certificate = Certificate(oracle, u, start, tolerance, max_iterations, reject)
        changes: deque[tuple[Tensor, Tensor, float]] = deque(maxlen=self.memory)
        x = start.detach()
        value, gradient = oracle.value_and_grad(x, u)
        while (solution := certificate.reached(x, gradient)) is None:
            direction = -_inverse_product(changes, gradient, 1 / certificate.L)
            slope = float(torch.dot(gradient, direction))
            rounding = 10 * torch.finfo(x.dtype).eps * abs(value)
            t = 1.0
            while True:
                if -t * slope <= rounding:
                    return iterate(oracle, u, x, gradient, certificate)
                new = torch.add(x, direction, alpha=t)
                new_value, new_gradient = oracle.value_and_grad(new, u)
                if new_value <= value + 1e-4 * t * slope:
                    break
                if certificate.left <= 0:
                    return certificate.solution("cap")
                t /= 2
            s, y = new - x, new_gradient - gradient
            curvature = float(torch.dot(s, y))
            if curvature > 0:  # false only by rounding, for a strongly convex h
                changes.append((s, y, curvature))
            x, value, gradient = new, new_value, new_gradient
        return solution


def _inverse_product(changes: deque[tuple[Tensor, Tensor, float]], gradient: Tensor, scale: float) -> Tensor:
    """The quasi-Newton matrix times the gradient, by the two-loop recursion."""
    q = gradient
    weights = []
    for s, y, curvature in reversed(changes):
        weight = float(torch.dot(s, q)) / curvature
        weights.append(weight)
        q = torch.add(q, y, alpha=-weight)
    if changes:
        _, y, curvature = changes[-1]
        scale = curvature / float(torch.dot(y, y))
    q = scale * q
    for (s, y, curvature), weight in zip(changes, reversed(weights), strict=True):
        q = torch.add(q, s, alpha=weight - float(torch.dot(y, q)) / curvature)
    return q
