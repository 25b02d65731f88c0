"""Conjugate gradients: the default for positive definite Hessians."""

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
    refine,
)
from selftune.shapes import Float, Tensor


@final
@dataclass(frozen=True)
class ConjugateGradient:
    """Conjugate gradients for positive definite H: about sqrt(L/mu) log(1/tolerance) products, at most n if exact.

    alpha = r'r / p'Hp; x += alpha p; r -= alpha H p; p = r + (r'r / old r'r) p.

    Source: Hestenes and Stiefel, "Methods of Conjugate Gradients for Solving Linear Systems", 1952.

    >>> matrix = torch.tensor([[2.0, 1.0], [1.0, 3.0]])
    >>> solution = ConjugateGradient().solve(lambda v: matrix @ v, torch.tensor([3.0, 4.0]), tolerance=1e-5)
    >>> solution.x
    tensor([1.0000, 1.0000])
    >>> solution.products, solution.reason  # two steps, and one product that measures the residual
    (3, 'tolerance')
    """

    max_products: int = MAX_PRODUCTS

    def solve(
        self, product: Product, b: Float[Tensor, "n"], *, tolerance: float, start: Float[Tensor, "n"] | None = None
    ) -> LinearSolution:
        """See ``LinearSolver.solve``."""
        system = LinearSystem(product, b, tolerance, self.max_products)
        return refine(system, start, lambda r, target: descend(system, r, target))


def descend(system: LinearSystem, r: Float[Tensor, "n"], target: float, shift: float = 0.0) -> Float[Tensor, "n"]:
    """Conjugate gradients from zero on (H + shift I) x = r, to a residual of ``target`` by their own account.

    Raises:
        NegativeCurvature: if p'Hp <= 0 for a direction p.
    """
    x, p, square = torch.zeros_like(r), r, dot(r, r)
    best, smallest = x, math.inf
    steps: list[float] = []
    ratios: list[float] = []
    while smallest > target and not system.exhausted:
        product = system.product(p)
        curvature = system.curvature(p, product)
        if shift:
            product, curvature = product + shift * p, curvature + shift * dot(p, p)
        alpha = square / curvature
        x = x + alpha * p
        r = r - alpha * product
        new_square = dot(r, r)
        if math.sqrt(new_square) < smallest:  # residuals of conjugate gradients may grow on the way
            best, smallest = x, math.sqrt(new_square)
        steps.append(alpha)
        ratios.append(new_square / square)
        p = r + ratios[-1] * p
        square = new_square
    system.ritz(steps, ratios, shift)
    return best
