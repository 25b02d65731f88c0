"""Accelerated proximal gradient descent, for lower levels with a term that is not smooth."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import final

import torch

from selftune.hypergradients.lower_solvers.lower_solver import (
    MAX_ITERATIONS,
    Certificate,
    LowerSolution,
    Reject,
    norm,
)
from selftune.hypergradients.oracle import Oracle
from selftune.shapes import Float, Tensor


@final
@dataclass(frozen=True)
class ProximalGradient:
    """Accelerated gradient descent where every step ends with the proximal map of the term that is not smooth.

    x+ = prox(y - grad h(y) / L); y+ = x+ + momentum (x+ - x), restarted where (y - x+)'(x+ - x) > 0. With
    G = L (y - x+) the vector G + grad h(x+) - grad h(y) is a subgradient at x+, of norm at most |G|; so x+ is
    within |G| / mu of the minimiser. Its exact subgradient is measured once that looks good enough. Without such
    a term the solver is accelerated gradient descent.

    Sources: Nesterov, "Gradient Methods for Minimizing Composite Functions", 2013; "Adaptive Restart for
    Accelerated Gradient Schemes" (arXiv 1204.3982).

    >>> from selftune.objectives.tasks.quadratic_bilevel import QuadraticBilevel
    >>> oracle = Oracle(QuadraticBilevel(parameter_count=4, hyperparameter_count=2))
    >>> ProximalGradient().solve(oracle, oracle.start_u(), oracle.start_x(), tolerance=1e-6).reason
    'tolerance'
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
        certificate = Certificate(oracle, u, start, tolerance, max_iterations, reject, proximal=True)
        x = y = start.detach()
        looked = math.inf
        while True:
            gradient = oracle.grad_x(y, u)
            step = 1 / certificate.L
            root = math.sqrt(certificate.mu * step)
            momentum = (1 - root) / (1 + root)
            moved = torch.add(y, gradient, alpha=-step)
            new = oracle.prox(moved, u, step)
            if new is None:
                new, mapping = moved, gradient
                solution = certificate.reached(y, gradient)
            else:
                mapping = certificate.L * (y - new)
                solution = None
                size = norm(mapping)
                # a subgradient costs a gradient: measured where it can decide, at the tolerance, at the floor,
                # for an early rejection, or at the end
                enough = max(certificate.tolerance * certificate.mu, certificate.floor(new))
                promising = size <= enough or certificate.left <= 1
                if promising or (reject is not None and size < looked / 2):
                    looked = size
                    solution = certificate.reached(new, mapping + oracle.grad_x(new, u) - gradient)
            if solution is not None:
                return solution
            move = new - x
            y = new if float(torch.dot(mapping, move)) > 0 else torch.add(new, move, alpha=momentum)
            x = new
