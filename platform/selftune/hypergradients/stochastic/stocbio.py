"""stocBiO: two loops, the linear system by a Neumann series that starts anew."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

from selftune.hypergradients.linear_solvers.linear_solver import Product
from selftune.hypergradients.stochastic.double_loop import DoubleLoop
from selftune.hypergradients.stochastic.linear_systems import neumann
from selftune.shapes import Float, Tensor


@final
@dataclass(frozen=True)
class StocBiO(DoubleLoop):
    """A baseline: x goes on from its last value, v is a truncated Neumann series of M products, always cold.

    The truncation biases the limit of u, by a share of (1 - inner_rate mu)^(M+1) of the linear system's solution.
    Per iteration N gradients, M Hessian products, one mixed product and one upper batch.

    Args:
        inner_rate, outer_rate, decay: see ``StochasticSolver``; the inner rate is at most 1/L here, and steps are
            constant by default.
        inner_steps, linear_steps: see ``DoubleLoop``.

    Source: "Bilevel Optimization: Convergence Analysis and Enhanced Design" (arXiv 2010.07962), stocBiO.

    >>> StocBiO(inner_rate=0.1, outer_rate=0.01, linear_steps=4).lower_draws
    15
    """

    def _solve(
        self, products: Sequence[Product], b: Float[Tensor, "n"], last: Float[Tensor, "n"], rate: float
    ) -> Float[Tensor, "n"]:
        return neumann(products, b, rate)
