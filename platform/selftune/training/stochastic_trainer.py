"""A trainer of finite sums: iterates a stochastic bilevel solver on batches of both levels."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch

from selftune.hypergradients.oracle import Counts
from selftune.hypergradients.stochastic import (
    MiniBatchOracle,
    Sampler,
    State,
    StochasticSolver,
    stochastic_solvers,
)
from selftune.lower_level.finite_sum import LevelOnExamples
from selftune.lower_level.lanczos import lanczos
from selftune.lower_level.smooth_objective import SmoothObjective
from selftune.methods import StochasticBilevelSettings
from selftune.methods.reports import Iterated, Solved
from selftune.methods.work_orders import FinishSolving, Iterate, Solve
from selftune.shapes import Float, Int, Tensor
from selftune.storage.state_tree import record
from selftune.training.smooth_trainer import SmoothTrainer, WarmStart

_SHARES = {"saba": 1 / 3}
"""Of what a batch's largest curvature allows, by algorithm; half for the others."""

_PROBES = 10  # products per batch that estimate its largest curvature
_MARGIN = 1.1  # a Ritz value lies below the eigenvalue


@record
@dataclass(frozen=True)
class StochasticStart(WarmStart):
    """Where iterations go on: the solver's state, where its draws stand, and what was measured of the batches."""

    state: Mapping[str, Any]
    draws: Mapping[str, Any]
    excess: float
    """By how much the largest curvature of a batch exceeds that of all examples, at the start."""


class StochasticTrainer(SmoothTrainer):
    """Executes ``Iterate`` beside the orders of ``SmoothTrainer``, of which ``FinishSolving`` measures the end.

    A report is a function of the order, the warm start that it names, and the seed of the batches.

    Args:
        objective: the two levels; its ``finite_sum`` says what they are on a batch.
        settings: of the method.
        member: position in the team; members are alike.
        cpus: threads that torch may use, at least 1.
        seed: of the batches.
    """

    def __init__(
        self,
        objective: SmoothObjective,
        settings: StochasticBilevelSettings,
        *,
        member: int = 0,
        cpus: float = 1,
        seed: int = 0,
    ) -> None:
        super().__init__(objective, member=member, solver=settings.solver, cpus=cpus)
        levels = objective.finite_sum()
        assert levels is not None, "the method's checks refuse other objectives"
        self._settings = settings
        self._batches = MiniBatchOracle(
            self._flat(levels.lower), self._flat(levels.upper), levels.lower_examples, levels.upper_examples
        )
        device = self.oracle.start_x().device
        examples = levels.lower_examples, levels.upper_examples
        self._sampler = Sampler(*examples, settings.batch_size, seed, device)
        self._first_draws = self._sampler.state_dict()

    def _flat(self, level: LevelOnExamples) -> Callable[[Tensor, Tensor, Tensor | None], Tensor]:
        """A level as a function of flat parameters and hyperparameters, differentiable in both."""

        def on_batch(x: Float[Tensor, "n"], u: Float[Tensor, "d"], index: Int[Tensor, "b"] | None) -> Tensor:
            return level(self.oracle.unravel(x), self.space.values(u), index)

        return on_batch

    def _executed(self, order: Solve | FinishSolving, warm: WarmStart) -> Solved:
        return self._iterate(order, warm) if isinstance(order, Iterate) else super()._executed(order, warm)

    def _iterate(self, order: Iterate, warm: WarmStart) -> Iterated:
        like = self.oracle.start_x()
        u, low, high = (one.to(like) for one in (order.values.unconstrained, order.low, order.high))
        before = self._batches.counts.copy()
        if isinstance(warm, StochasticStart):
            excess, state = warm.excess, State.from_state_dict(dict(warm.state))
            self._sampler.load_state_dict(dict(warm.draws))
            solver = self._solver(u, excess)
        else:
            excess = self._excess(warm.x, u)
            self._sampler.load_state_dict(self._first_draws)
            solver = self._solver(u, excess)
            state = solver.start(self._batches, warm.x, u, self._sampler)
        state.u = u
        hypergradient = self._hypergradient(state)
        tree, values = self.oracle.unravel(state.x), self.oracle.values(u)
        training, validation = (
            self.objective.training_loss(tree, values),
            float(self.objective.upper(tree, values)),
        )
        for _ in range(order.iterations):
            solver.step(self._batches, state, *self._sampler.draw(solver.lower_draws))
            state.u = state.u.clamp(low, high)
        self._charge(before)
        self._states[order.end] = StochasticStart(
            state.x, state.v, state.state_dict(), self._sampler.state_dict(), excess
        )
        finite = bool(torch.isfinite(state.x).all() and torch.isfinite(state.v).all())
        moved = state.u.double() if finite else torch.full_like(u, math.nan).double()
        return Iterated(
            moved=moved.cpu(),
            hypergradient=hypergradient.double().cpu(),
            training_loss=training,
            validation_loss=validation,
            inner_rate=solver.rates(state.iteration - 1)[0],
        )

    def _hypergradient(self, state: State) -> Float[Tensor, "d"]:
        """The estimate on all examples, with the linear system's solution of the moment."""
        upper_u = self._batches.upper_gradients(state.x, state.u)[1]
        return upper_u - self._batches.JT(state.x, state.u, state.v)

    def _solver(self, u: Float[Tensor, "d"], excess: float) -> StochasticSolver:
        asked, name = self._settings, self._settings.algorithm
        rate = asked.inner_rate
        if rate is None:
            rate = _SHARES.get(name, 0.5) / (self.oracle.constants(u).smoothness + excess)
        chosen = {"decay": asked.decay, "inner_steps": asked.inner_steps, "linear_steps": asked.linear_steps}
        given = {key: value for key, value in chosen.items() if value is not None}
        return stochastic_solvers[name](inner_rate=rate, outer_rate=asked.outer_rate, **given)

    def _excess(self, x: Float[Tensor, "n"], u: Float[Tensor, "d"]) -> float:
        if self._settings.inner_rate is not None:
            return 0.0
        largest = [
            float(
                lanczos(self._batches.hvp_at(x, u, batch.index), x, _PROBES, torch.Generator().manual_seed(0))[1]
            )
            for batch in self._sampler.lower
        ]
        return max(0.0, _MARGIN * max(largest) - self.oracle.constants(u).smoothness)

    def _charge(self, before: Counts) -> None:
        """Counts derivatives of batches as the share of the examples that they look at."""
        spent, batches = self._batches.counts - before, len(self._sampler.lower)
        grad, hvp, jac = (math.ceil(count / batches) for count in (spent.grad, spent.hvp, spent.jac))
        self.oracle.counts += Counts(grad, hvp, jac, math.ceil(spent.up / len(self._sampler.upper)))


@dataclass(frozen=True)
class StochasticTrainerFactory:
    """Makes the trainers of a team, in this process or in others; called with the member's number."""

    objective: SmoothObjective
    settings: StochasticBilevelSettings
    cpus: float = 1
    seed: int = 0

    def __call__(self, member: int) -> StochasticTrainer:
        return StochasticTrainer(self.objective, self.settings, member=member, cpus=self.cpus, seed=self.seed)
