"""SOBA: one loop, parameters, linear system and hyperparameters moved at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, final

from selftune.hypergradients.stochastic.mini_batch_oracle import MiniBatchOracle
from selftune.hypergradients.stochastic.sampler import Batch
from selftune.hypergradients.stochastic.solver import State, StochasticSolver
from selftune.shapes import Float, Tensor


class Directions(NamedTuple):
    """The five derivatives that one iteration of a single loop takes, at one (x, v, u)."""

    gradient: Float[Tensor, "n"]
    """grad_x h."""
    hessian_product: Float[Tensor, "n"]
    """Hv."""
    mixed_product: Float[Tensor, "d"]
    """J'v."""
    upper_x: Float[Tensor, "n"]
    """grad_x g."""
    upper_u: Float[Tensor, "d"]
    """grad_u g."""


def directions(oracle: MiniBatchOracle, state: State, lower: Batch, upper: Batch) -> Directions:
    """On one batch of each level, at the price of one gradient, one Hessian, one mixed product and one of g."""
    from_lower = oracle.lower_direction(state.x, state.u, state.v, lower.index)
    return Directions(*from_lower, *oracle.upper_gradients(state.x, state.u, upper.index))


def move_at_once(state: State, at: Directions, inner_rate: float, outer_rate: float) -> None:
    """x -= rho grad_x h, v -= rho (Hv - grad_x g), u -= gamma (grad_u g - J'v), all from the old state."""
    state.x = state.x - inner_rate * at.gradient
    state.v = state.v - inner_rate * (at.hessian_product - at.upper_x)
    state.u = state.u - outer_rate * (at.upper_u - at.mixed_product)


@final
@dataclass(frozen=True)
class Soba(StochasticSolver):
    """The default single loop: x -= rho grad_x h, v -= rho (Hv - grad_x g), u -= gamma (grad_u g - J'v), at once.

    One gradient, one Hessian and one mixed product of one lower batch, which share a graph, and one upper batch.
    v has the opposite sign in the paper.

    Args:
        inner_rate, outer_rate, decay: see ``StochasticSolver``; steps shrink as k^-1/2 by default, as noise that
            does not vanish demands. x and v must follow u: an outer rate too large beside inner_rate * mu, mu
            the smallest eigenvalue of H, lets the three diverge together.

    Source: "A framework for bilevel optimization that enables stochastic and global variance reduction
    algorithms" (arXiv 2201.13409), SOBA.

    >>> Soba(inner_rate=0.1, outer_rate=0.02).rates(iteration=3)
    (0.05, 0.01)
    """

    decay: float = 0.5

    def _move(self, oracle: MiniBatchOracle, state: State, lower: Sequence[Batch], upper: Batch) -> None:
        move_at_once(state, directions(oracle, state, lower[0], upper), *self.rates(state.iteration))
