"""SABA: SOBA with a memory of every batch, which removes the noise in the limit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

from selftune.errors import SettingError
from selftune.hypergradients.stochastic.mini_batch_oracle import MiniBatchOracle
from selftune.hypergradients.stochastic.saga_table import SagaTable
from selftune.hypergradients.stochastic.sampler import Batch, Sampler
from selftune.hypergradients.stochastic.soba import Directions, directions, move_at_once
from selftune.hypergradients.stochastic.solver import State, StochasticSolver
from selftune.shapes import Float, Tensor


@final
@dataclass(frozen=True)
class Saba(StochasticSolver):
    """SOBA with a SAGA table for each of its five derivatives: converges with constant steps.

    Memory: (2n + d) numbers per lower batch and (n + d) per upper batch. The start evaluates every batch once.
    With one batch per level it is SOBA with the same steps, to the last bit.

    Args:
        inner_rate, outer_rate, decay: see ``StochasticSolver``. As of SAGA, steps are shorter than those of SOBA:
            an inner rate of 1/(3L), L the largest eigenvalue of H on any batch, is the safe choice; the outer
            rate as for SOBA.

    Source: "A framework for bilevel optimization that enables stochastic and global variance reduction
    algorithms" (arXiv 2201.13409), SABA.

    >>> import torch
    >>> from selftune.hypergradients.stochastic import run
    >>> data = torch.tensor([0.0, 2.0])  # two lower examples that disagree: xhat(u) = u + 1
    >>> oracle = MiniBatchOracle(
    ...     lambda x, u, index: (x - u - data[index]).square().mean(), lambda x, u, index: x.square().sum(), 2, 1
    ... )
    >>> solver = Saba(inner_rate=0.2, outer_rate=0.05)
    >>> run(solver, oracle, torch.zeros(1), torch.zeros(1), iterations=400, batch_size=1).u
    tensor([-1.])
    """

    def start(
        self,
        oracle: MiniBatchOracle,
        x: Float[Tensor, "n"],
        u: Float[Tensor, "d"],
        sampler: Sampler,
        v: Float[Tensor, "n"] | None = None,
    ) -> State:
        """See ``StochasticSolver.start``: the tables hold the derivatives at this point."""
        state = super().start(oracle, x, u, sampler, v)
        lower = [oracle.lower_direction(state.x, state.u, state.v, batch.index) for batch in sampler.lower]
        upper = [oracle.upper_gradients(state.x, state.u, batch.index) for batch in sampler.upper]
        lower_weights = [batch.weight for batch in sampler.lower]
        upper_weights = [batch.weight for batch in sampler.upper]
        tables = [SagaTable.of(rows, lower_weights) for rows in zip(*lower, strict=True)]
        tables += [SagaTable.of(rows, upper_weights) for rows in zip(*upper, strict=True)]
        state.tables = dict(zip(Directions._fields, tables, strict=True))
        return state

    def _move(self, oracle: MiniBatchOracle, state: State, lower: Sequence[Batch], upper: Batch) -> None:
        if not state.tables:
            raise SettingError("state", "has no tables; make it by Saba.start")
        new = directions(oracle, state, lower[0], upper)
        numbers = (lower[0].number,) * 3 + (upper.number,) * 2
        named = zip(Directions._fields, numbers, new, strict=True)
        corrected = Directions(*[state.tables[name].estimate(number, value) for name, number, value in named])
        move_at_once(state, corrected, *self.rates(state.iteration))
