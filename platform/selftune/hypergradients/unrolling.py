"""Hypergradients by unrolling: the derivative of the upper level after T steps of a lower-level solver."""

from __future__ import annotations

from dataclasses import dataclass

from selftune.errors import SettingError
from selftune.hypergradients.oracle import Oracle
from selftune.hypergradients.update_maps import UpdateMap
from selftune.shapes import Float, Tensor


@dataclass(frozen=True)
class Unrolled:
    """A hypergradient through ``steps`` updates, where they led, and the upper level there."""

    value: Float[Tensor, "d"]
    x: Float[Tensor, "n"]
    upper: float
    steps: int


def reverse_unrolling(
    oracle: Oracle,
    update: UpdateMap,
    x: Float[Tensor, "n"],
    u: Float[Tensor, "d"],
    steps: int,
    checkpoint_every: int = 1,
) -> Unrolled:
    """Reverse mode: d g(x_T(u), u) / du for x_T = Phi(...Phi(x, u)..., u), with x held constant.

    From q = grad_x g and z = grad_u g at the end, backwards over t: z += B_t'q, q <- A_t'q.

    Args:
        steps: T, at least 0.
        checkpoint_every: k keeps every k-th iterate and computes those between again: memory (T/k + k) n instead
            of T n, least for k near sqrt(T), at the price of one more update per step if k > 1.

    Raises:
        SettingError: if steps or checkpoint_every is out of range.

    Source: "Forward and Reverse Gradient-Based Hyperparameter Optimization" (arXiv 1703.01785), algorithm 1.

    >>> import torch
    >>> from selftune.hypergradients.update_maps import GradientStep
    >>> from selftune.objectives.tasks.quadratic_bilevel import QuadraticBilevel
    >>> problem = QuadraticBilevel(parameter_count=4, hyperparameter_count=2)
    >>> oracle, u = Oracle(problem), torch.zeros(2, dtype=torch.float64)
    >>> unrolled = reverse_unrolling(oracle, GradientStep(oracle, 1.0), oracle.start_x(), u, steps=2000)
    >>> bool((unrolled.value - problem.hypergradient(u)).norm() < 1e-8)
    True
    """
    _check(steps)
    if checkpoint_every < 1:
        raise SettingError("checkpoint_every", f"must be at least 1, got {checkpoint_every}")
    kept: list[Tensor] = []
    for t in range(steps):
        if t % checkpoint_every == 0:
            kept.append(x)
        x = update(x, u)
    upper, q = oracle.upper_value_and_grad(x, u)
    z = oracle.upper_grad_u(x, u)
    for segment in reversed(range(len(kept))):
        path = [kept.pop()]
        for _ in range(min(checkpoint_every, steps - segment * checkpoint_every) - 1):
            path.append(update(path[-1], u))
        for at in reversed(path):
            z = z + update.pull_u(at, u, q)
            q = update.pull_x(at, u)(q)
    return Unrolled(z, x, upper, steps)


@dataclass(frozen=True)
class ForwardState:
    """An iterate and its derivative Z = dx/du, which forward mode carries along: for use online, step by step.

    >>> import torch
    >>> from selftune.hypergradients.update_maps import DifferentiableMap
    >>> halve = DifferentiableMap(lambda x, u: 0.5 * x + u)
    >>> state = ForwardState.start(torch.zeros(1), torch.ones(1))
    >>> state.step(halve, torch.ones(1)).step(halve, torch.ones(1)).tangents
    tensor([[1.5000]])
    """

    x: Float[Tensor, "n"]
    tangents: Float[Tensor, "n d"]

    @classmethod
    def start(cls, x: Float[Tensor, "n"], u: Float[Tensor, "d"]) -> ForwardState:
        """A point that does not depend on u."""
        return cls(x, x.new_zeros(len(x), len(u)))

    def step(self, update: UpdateMap, u: Float[Tensor, "d"]) -> ForwardState:
        """After one update: Z <- A Z + B. Costs d products with A and B each."""
        return ForwardState(update(self.x, u), update.push(self.x, u, self.tangents))

    def hypergradient(self, oracle: Oracle, u: Float[Tensor, "d"]) -> tuple[Float[Tensor, "d"], float]:
        """grad_u g + Z' grad_x g, and g."""
        upper, b = oracle.upper_value_and_grad(self.x, u)
        return oracle.upper_grad_u(self.x, u) + self.tangents.T @ b, upper


def forward_unrolling(
    oracle: Oracle, update: UpdateMap, x: Float[Tensor, "n"], u: Float[Tensor, "d"], steps: int
) -> Unrolled:
    """Forward mode: the same derivative as ``reverse_unrolling``, at d times the cost of the steps.

    It stores no path, only d tangents: for at most about ten hyperparameters.

    Raises:
        SettingError: if steps is negative.

    Source: "Forward and Reverse Gradient-Based Hyperparameter Optimization" (arXiv 1703.01785), algorithm 2.
    """
    _check(steps)
    state = ForwardState.start(x, u)
    for _ in range(steps):
        state = state.step(update, u)
    z, upper = state.hypergradient(oracle, u)
    return Unrolled(z, state.x, upper, steps)


def _check(steps: int) -> None:
    if steps < 0:
        raise SettingError("steps", f"must be at least 0, got {steps}")
