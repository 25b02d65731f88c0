"""Neumann series: the inverse Hessian as a truncated geometric series."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import final

import torch

from selftune.errors import SettingError
from selftune.hypergradients.linear_solvers.linear_solver import (
    MAX_PRODUCTS,
    LinearSolution,
    LinearSystem,
    Product,
    norm,
    refine,
)
from selftune.shapes import Float, Tensor


@final
@dataclass(frozen=True)
class NeumannSeries:
    """H^-1 b = step * sum_k (I - step H)^k b for positive definite H, cut at the tolerance or after K terms.

    From a zero start, K products give K terms and a residual of (I - step H)^K b: an error of at most
    (1 - mu/L)^K for step 1/L. It equals reverse unrolling of K gradient steps of that length from the fixed point.
    A start other than zero continues the series from there.

    Args:
        step: positive, at most 1/L with L the largest eigenvalue of H.
        max_products: the number of terms K.

    Source: "Optimizing Millions of Hyperparameters by Implicit Differentiation" (arXiv 1911.02590), eq. 5.

    >>> solution = NeumannSeries(step=0.5, max_products=3).solve(lambda v: v, torch.ones(1), tolerance=1e-6)
    >>> solution.x, solution.residual, solution.reason  # 1/2 + 1/4 + 1/8
    (tensor([0.8750]), 0.125, 'cap')
    """

    step: float
    max_products: int = MAX_PRODUCTS

    def __post_init__(self) -> None:
        if not (self.step > 0 and math.isfinite(self.step)):
            raise SettingError("step", f"must be a positive number, got {self.step}")

    def solve(
        self, product: Product, b: Float[Tensor, "n"], *, tolerance: float, start: Float[Tensor, "n"] | None = None
    ) -> LinearSolution:
        """See ``LinearSolver.solve``.

        Raises:
            SettingError: if the step is proven longer than 2/L, where the series diverges.
        """
        system = LinearSystem(product, b, tolerance, self.max_products)
        return refine(system, start, lambda r, target: self._correct(system, r, target))

    def _correct(self, system: LinearSystem, r: Tensor, target: float) -> Tensor:
        x, size = torch.zeros_like(r), norm(r)
        while size > target and not system.exhausted:
            x = x + self.step * r
            product = system.product(r)
            system.curvature(r, product)
            largest = norm(product) / size  # at most the largest eigenvalue
            if self.step * largest > 2.001:
                raise SettingError(
                    "step",
                    f"is {self.step:.3g}, too long for a Hessian with an eigenvalue of {largest:.3g} or more; "
                    f"use at most {1 / largest:.3g}",
                )
            r = r - self.step * product
            size = norm(r)
        return x + self.step * r  # the next term needs no product
