"""Two loops: steps of x, then steps on the linear system, then one step of u."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

from selftune.errors import SettingError
from selftune.hypergradients.linear_solvers.linear_solver import Product
from selftune.hypergradients.stochastic.mini_batch_oracle import MiniBatchOracle
from selftune.hypergradients.stochastic.sampler import Batch
from selftune.hypergradients.stochastic.solver import State, StochasticSolver
from selftune.shapes import Float, Tensor


@dataclass(frozen=True)
class DoubleLoop(StochasticSolver):
    """N stochastic gradient steps of x from its last value; M products for v; u -= gamma (grad_u g - J'v).

    Every step and every product has its own batch of the lower level, J'v one more; grad_x g and grad_u g share
    one batch of the upper level, all at the new x.

    Args:
        inner_rate, outer_rate, decay: see ``StochasticSolver``.
        inner_steps: N, at least 1.
        linear_steps: M, at least 1.

    Raises:
        SettingError: if a setting is outside its range.
    """

    inner_steps: int = 10
    linear_steps: int = 10

    def __post_init__(self) -> None:
        super().__post_init__()
        for key in ("inner_steps", "linear_steps"):
            if getattr(self, key) < 1:
                raise SettingError(key, f"must be at least 1, got {getattr(self, key)}")

    @property
    def lower_draws(self) -> int:
        """See ``StochasticSolver.lower_draws``."""
        return self.inner_steps + self.linear_steps + 1

    def _move(self, oracle: MiniBatchOracle, state: State, lower: Sequence[Batch], upper: Batch) -> None:
        inner_rate, outer_rate = self.rates(state.iteration)
        x, u = state.x, state.u
        for batch in lower[: self.inner_steps]:
            x = x - inner_rate * oracle.grad_x(x, u, batch.index)
        upper_x, upper_u = oracle.upper_gradients(x, u, upper.index)
        products = [_fresh_product(oracle, x, u, batch) for batch in lower[self.inner_steps : -1]]
        state.v = self._solve(products, upper_x, state.v, inner_rate)
        state.x = x
        state.u = u - outer_rate * (upper_u - oracle.JT(x, u, state.v, lower[-1].index))

    @abstractmethod
    def _solve(
        self, products: Sequence[Product], b: Float[Tensor, "n"], last: Float[Tensor, "n"], rate: float
    ) -> Float[Tensor, "n"]:
        """H^-1 b, about; ``last`` is the v of the iteration before."""


def _fresh_product(oracle: MiniBatchOracle, x: Tensor, u: Tensor, batch: Batch) -> Product:
    # linearised only when used, once: at any time there is one graph in memory, not one per batch
    return lambda v: oracle.hvp_at(x, u, batch.index)(v)
