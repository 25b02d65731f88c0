"""MINRES: the smallest residual in the Krylov space, for symmetric Hessians that may be indefinite."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import final

import torch

from selftune.hypergradients.linear_solvers.linear_solver import (
    MAX_PRODUCTS,
    LinearSolution,
    LinearSystem,
    Product,
    dot,
    norm,
    refine,
)
from selftune.shapes import Float, Tensor


@final
@dataclass(frozen=True)
class Minres:
    """The minimal residual method for symmetric H, definite or not; the residual never grows.

    A singular system without a solution ends in ``stagnation`` at a least-squares solution. Negative curvature is
    no error here, but with it the solution is no response of a minimiser: the caller has to know that H may be
    indefinite.

    Source: Paige and Saunders, "Solution of Sparse Indefinite Systems of Linear Equations", 1975.

    >>> matrix = torch.tensor([[1.0, 2.0], [2.0, 1.0]])  # eigenvalues 3 and -1
    >>> Minres().solve(lambda v: matrix @ v, torch.tensor([3.0, 0.0]), tolerance=1e-5).x
    tensor([-1.0000,  2.0000])
    """

    max_products: int = MAX_PRODUCTS

    def solve(
        self, product: Product, b: Float[Tensor, "n"], *, tolerance: float, start: Float[Tensor, "n"] | None = None
    ) -> LinearSolution:
        """See ``LinearSolver.solve``; never raises ``NegativeCurvature``."""
        system = LinearSystem(product, b, tolerance, self.max_products)
        return refine(system, start, lambda r, target: _correct(system, r, target))


def _correct(system: LinearSystem, r: Tensor, target: float) -> Tensor:
    """Lanczos vectors v of H, and plane rotations (c, s) that make its tridiagonal matrix triangular."""
    eps = torch.finfo(r.dtype).eps
    x, old_v, v = torch.zeros_like(r), torch.zeros_like(r), r
    old_w, w = torch.zeros_like(r), torch.zeros_like(r)
    old_c, c, old_s, s = 1.0, 1.0, 0.0, 0.0
    beta, remaining, scale = 0.0, 1.0, 0.0  # remaining: the residual's norm, with a sign
    while abs(remaining) > target and not system.exhausted:
        product = system.product(v)
        alpha = dot(v, product)
        system.smallest_curvature = min(system.smallest_curvature, alpha)
        new_v = product - alpha * v - beta * old_v
        new_beta = norm(new_v)
        scale = max(scale, math.hypot(beta, alpha, new_beta))
        diagonal = c * alpha - old_c * s * beta
        if math.hypot(diagonal, c * new_beta) <= 10 * eps * scale:
            break  # ‖H r‖ vanishes against ‖H‖‖r‖: r is orthogonal to the range
        pivot = math.hypot(diagonal, new_beta)
        new_w = (v - (s * alpha + old_c * c * beta) * w - old_s * beta * old_w) / pivot
        old_c, c, old_s, s = c, diagonal / pivot, s, new_beta / pivot
        x = x + c * remaining * new_w
        remaining *= -s
        if new_beta <= eps * scale:
            break  # an invariant subspace: x is exact in it
        old_w, w = w, new_w
        old_v, v, beta = v, new_v / new_beta, new_beta
    return x
