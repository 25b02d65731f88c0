"""The fixed point of q = M q + b, for any contraction M."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

from selftune.hypergradients.linear_solvers.linear_solver import (
    MAX_PRODUCTS,
    LinearSolution,
    LinearSystem,
    Product,
    norm,
)
from selftune.shapes import Float, Tensor

PATIENCE = 100
"""Products without a new smallest residual after which the iteration is called stagnant."""


@final
@dataclass(frozen=True)
class FixedPoint:
    """q <- M q + b: the solution of (I - M) q = b for any contraction M, symmetric or not.

    In hypergradients M = (dPhi/dx)' for an update map Phi of the lower level. ``solve`` takes the product with the
    matrix of the linear system, I - M. Where M is no contraction the iteration ends in ``stagnation``.

    Source: "On the Iteration Complexity of Hypergradient Computation" (arXiv 2006.16218), section 3.

    >>> import torch
    >>> matrix = torch.tensor([[0.5, 0.9], [0.0, 0.5]])
    >>> FixedPoint().solve(lambda v: v - matrix @ v, torch.tensor([1.0, 1.0]), tolerance=1e-5).x
    tensor([5.6000, 2.0000])
    """

    max_products: int = MAX_PRODUCTS

    def solve(
        self, product: Product, b: Float[Tensor, "n"], *, tolerance: float, start: Float[Tensor, "n"] | None = None
    ) -> LinearSolution:
        """See ``LinearSolver.solve``; H = I - M need not be symmetric, and curvature is not looked at."""
        system = LinearSystem(product, b, tolerance, self.max_products)
        x, residual = system.begin(start)
        best, best_residual, smallest = x, residual, norm(residual)
        idle = 0
        while smallest > tolerance and system.products < self.max_products and idle < PATIENCE:
            x = x + residual
            residual = system.residual(x)
            idle += 1  # in this norm the residual of a contraction may grow for a while
            if norm(residual) > 1e6 * smallest:
                idle = PATIENCE
            elif norm(residual) < smallest:
                best, best_residual, smallest, idle = x, residual, norm(residual), 0
        if smallest <= tolerance:
            return system.solution(best, best_residual, "tolerance")
        return system.solution(best, best_residual, "stagnation" if idle >= PATIENCE else "cap")
