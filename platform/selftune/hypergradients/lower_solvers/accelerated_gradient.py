"""Nesterov's accelerated gradient descent with restart: the default lower-level solver."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import final

import torch

from selftune.hypergradients.lower_solvers.lower_solver import MAX_ITERATIONS, Certificate, LowerSolution, Reject
from selftune.hypergradients.oracle import Oracle
from selftune.shapes import Float, Tensor


@final
@dataclass(frozen=True)
class AcceleratedGradient:
    """Constant momentum (1 - sqrt(mu/L)) / (1 + sqrt(mu/L)): about sqrt(L/mu) log(1/tolerance) gradients.

    x+ = y - grad h(y) / L; y+ = x+ + momentum (x+ - x); y+ = x+ where grad h(y)'(x+ - x) > 0. It stops on the
    gradient at y, and returns y.

    Sources: Nesterov, "Introductory Lectures on Convex Optimization", 2004, section 2.2; "Adaptive Restart for
    Accelerated Gradient Schemes" (arXiv 1204.3982), gradient scheme.

    >>> from selftune.objectives.tasks.quadratic_bilevel import QuadraticBilevel
    >>> oracle = Oracle(QuadraticBilevel(parameter_count=4, hyperparameter_count=2))
    >>> solution = AcceleratedGradient().solve(oracle, oracle.start_u(), oracle.start_x(), tolerance=1e-6)
    >>> solution.reason, solution.error <= 1e-6
    ('tolerance', True)
    """

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
        x = y = start.detach()
        while True:
            gradient = oracle.grad_x(y, u)
            if (solution := certificate.reached(y, gradient)) is not None:
                return solution
            step = 1 / certificate.L
            root = math.sqrt(certificate.mu * step)
            momentum = (1 - root) / (1 + root)
            new = torch.add(y, gradient, alpha=-step)
            move = new - x
            y = new if float(torch.dot(gradient, move)) > 0 else torch.add(new, move, alpha=momentum)
            x = new
