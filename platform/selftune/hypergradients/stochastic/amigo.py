"""AmIGO: two loops, both warm."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

from selftune.hypergradients.linear_solvers.linear_solver import Product
from selftune.hypergradients.stochastic.double_loop import DoubleLoop
from selftune.hypergradients.stochastic.linear_systems import descent
from selftune.shapes import Float, Tensor


@final
@dataclass(frozen=True)
class Amigo(DoubleLoop):
    """The default double loop: x and v both go on from their last values, so that no bias is left in the limit.

    Per iteration N gradients, M Hessian products, one mixed product and one upper batch.

    Args:
        inner_rate, outer_rate, decay: see ``StochasticSolver``; steps are constant by default.
        inner_steps, linear_steps: see ``DoubleLoop``.

    Source: "Amortized Implicit Differentiation for Stochastic Bilevel Optimization" (arXiv 2111.14580), AmIGO.

    >>> Amigo(inner_rate=0.1, outer_rate=0.01).lower_draws
    21
    """

    def _solve(
        self, products: Sequence[Product], b: Float[Tensor, "n"], last: Float[Tensor, "n"], rate: float
    ) -> Float[Tensor, "n"]:
        return descent(products, b, last, rate)
