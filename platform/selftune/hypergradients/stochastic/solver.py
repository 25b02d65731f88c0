"""What every stochastic solver is: settings, and one iteration on an explicit state."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from selftune.errors import SettingError
from selftune.hypergradients.stochastic.mini_batch_oracle import MiniBatchOracle
from selftune.hypergradients.stochastic.saga_table import SagaTable
from selftune.hypergradients.stochastic.sampler import Batch, Sampler
from selftune.shapes import Float, Tensor


@dataclass
class State:
    """Where a stochastic solver stands.

    >>> state = State(torch.zeros(3), torch.zeros(3), torch.zeros(2), iteration=4)
    >>> State.from_state_dict(state.state_dict()).iteration
    4
    """

    x: Float[Tensor, "n"]
    """Parameters, on their way to the minimiser of h."""
    v: Float[Tensor, "n"]
    """On its way to H^-1 grad_x g."""
    u: Float[Tensor, "d"]
    """Hyperparameters."""
    iteration: int = 0
    """Iterations done."""
    tables: dict[str, SagaTable] = field(default_factory=dict)
    """Memory of batches; empty but for SABA."""

    def state_dict(self) -> dict[str, Any]:
        """Everything, as tensors and numbers."""
        tables = {name: table.state_dict() for name, table in self.tables.items()}
        return {"x": self.x, "v": self.v, "u": self.u, "iteration": self.iteration, "tables": tables}

    @classmethod
    def from_state_dict(cls, state: dict[str, Any]) -> State:
        """The state of ``state_dict``."""
        tables = {name: SagaTable.from_state_dict(table) for name, table in state["tables"].items()}
        return cls(state["x"], state["v"], state["u"], state["iteration"], tables)


@dataclass(frozen=True)
class StochasticSolver(ABC):
    """Minimises g(xhat(u), u) over u, xhat(u) = argmin_x h(x, u), from batches, with no exact solve in between.

    v stands for H^-1 grad_x g, so the hypergradient is grad_u g - J'v. Steps shrink as (k + 1)^-decay in
    iteration k = 0, 1, ...

    Args:
        inner_rate: step of x and v, positive, below 2/L with L the largest eigenvalue of H on any batch.
        outer_rate: step of u, positive.
        decay: in [0, 1]; 0 keeps the steps constant.

    Raises:
        SettingError: if a setting is outside its range.
    """

    inner_rate: float
    outer_rate: float
    decay: float = 0.0

    def __post_init__(self) -> None:
        for key in ("inner_rate", "outer_rate"):
            rate = getattr(self, key)
            if not (rate > 0 and math.isfinite(rate)):
                raise SettingError(key, f"must be a positive number, got {rate}")
        if not 0 <= self.decay <= 1:
            raise SettingError("decay", f"must be in [0, 1], got {self.decay}")

    @property
    def lower_draws(self) -> int:
        """Batches of the lower level per iteration; of the upper level it is always one."""
        return 1

    def rates(self, iteration: int) -> tuple[float, float]:
        """Inner and outer step of an iteration, counted from 0."""
        scale = float((iteration + 1) ** -self.decay)
        return self.inner_rate * scale, self.outer_rate * scale

    def start(
        self,
        oracle: MiniBatchOracle,
        x: Float[Tensor, "n"],
        u: Float[Tensor, "d"],
        sampler: Sampler,
        v: Float[Tensor, "n"] | None = None,
    ) -> State:
        """The state at a point; v is zero unless given. Solvers with tables evaluate every batch here."""
        return State(x.detach(), torch.zeros_like(x) if v is None else v.detach(), u.detach())

    def step(self, oracle: MiniBatchOracle, state: State, lower: Sequence[Batch], upper: Batch) -> None:
        """One iteration: moves the state in place (its tensors are replaced, only tables are written into).

        Args:
            lower: ``lower_draws`` batches of the lower level.
            upper: one batch of the upper level.

        Raises:
            SettingError: if the number of batches is another one.
        """
        if len(lower) != self.lower_draws:
            raise SettingError("lower", f"must have {self.lower_draws} batches, got {len(lower)}")
        self._move(oracle, state, lower, upper)
        state.iteration += 1

    @abstractmethod
    def _move(self, oracle: MiniBatchOracle, state: State, lower: Sequence[Batch], upper: Batch) -> None:
        """New x, v and u of the state."""


def advance(
    solver: StochasticSolver, oracle: MiniBatchOracle, state: State, sampler: Sampler, iterations: int
) -> State:
    """``iterations`` iterations from a state, which is moved and returned."""
    for _ in range(iterations):
        solver.step(oracle, state, *sampler.draw(solver.lower_draws))
    return state


def run(
    solver: StochasticSolver,
    oracle: MiniBatchOracle,
    x: Float[Tensor, "n"],
    u: Float[Tensor, "d"],
    *,
    iterations: int,
    batch_size: int,
    seed: int = 0,
) -> State:
    """A run from (x, u), v = 0, with batches drawn by a seed; to go on later, make the sampler and ``advance``.

    >>> from selftune.hypergradients.stochastic import Soba
    >>> oracle = MiniBatchOracle(  # xhat(u) = u, so the upper level is least at u = 1
    ...     lambda x, u, index: (x - u).square().sum(), lambda x, u, index: (x - 1).square().sum(), 1, 1
    ... )
    >>> solver = Soba(inner_rate=0.2, outer_rate=0.1, decay=0.0)
    >>> run(solver, oracle, torch.zeros(1), torch.zeros(1), iterations=200, batch_size=1).u
    tensor([1.0000])
    """
    sampler = Sampler(oracle.lower_examples, oracle.upper_examples, batch_size, seed, x.device)
    return advance(solver, oracle, solver.start(oracle, x, u, sampler), sampler, iterations)
