"""Hypergradients by penalty: two lower-level solutions and first derivatives, no Hessian and no mixed products."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from selftune.errors import SettingError
from selftune.hypergradients.lower_solvers import LowerSolution, LowerSolver
from selftune.hypergradients.oracle import Oracle
from selftune.lower_level.smooth_objective import Constants, SmoothObjective, Tree
from selftune.shapes import Float, Tensor


@dataclass(frozen=True)
class PenaltyHypergradient:
    """The penalized upper level psi_sigma and its gradient, from approximate solutions of both problems."""

    value: Float[Tensor, "d"]
    """z = grad_u g(y, u) + [grad_u h(y, u) - grad_u h(w, u)] / sigma."""
    psi: float
    """g(y, u) + [h(y, u) - h(w, u)] / sigma."""
    lower: LowerSolution
    """w, the minimiser of h."""
    penalized: LowerSolution
    """y, the minimiser of h + sigma g."""


class Penalized(SmoothObjective):
    """The same upper level above the lower level h + sigma g.

    Its strong convexity and smoothness are proven where those of h are; for a g that is not convex, sigma times
    the smoothness of g is taken off the strong convexity. The Lipschitz constants of the second derivatives are
    those of h alone, so nothing is ``certified``.

    Args:
        objective: without a term that is not smooth.
        sigma: positive.
    """

    def __init__(self, objective: SmoothObjective, sigma: float) -> None:
        self.objective = objective
        self.sigma = sigma
        self.hyperparameters = objective.hyperparameters

    def parameters(self) -> dict[str, Tensor]:
        return self.objective.parameters()

    def lower(self, parameters: Tree, values: Mapping[str, Any]) -> Float[Tensor, ""]:
        return self.objective.lower(parameters, values) + self.sigma * self.objective.upper(parameters, values)

    def upper(self, parameters: Tree, values: Mapping[str, Any]) -> Float[Tensor, ""]:
        return self.objective.upper(parameters, values)

    def constants(self, values: Mapping[str, Any], slopes: Mapping[str, Tensor]) -> Constants:
        h = self.objective.constants(values, slopes)
        bend = self.sigma * h.upper_smoothness
        return Constants(
            strong_convexity=h.strong_convexity - (0.0 if h.upper_convex else bend),
            smoothness=h.smoothness + bend,
            hessian_lipschitz=h.hessian_lipschitz,
            jacobian_lipschitz=h.jacobian_lipschitz,
            upper_smoothness=h.upper_smoothness,
            upper_convex=h.upper_convex,
            certified=False,
            upper_mixed_smoothness=h.upper_mixed_smoothness,
        )


def penalty_hypergradient(
    oracle: Oracle,
    u: Float[Tensor, "d"],
    sigma: float,
    solver: LowerSolver,
    tolerance: float,
    start: tuple[Float[Tensor, "n"], Float[Tensor, "n"]] | None = None,
) -> PenaltyHypergradient:
    """Value and gradient of psi_sigma(u) = [min_x (h + sigma g) - min_x h] / sigma, which is f(u) up to O(sigma).

    f(u) = g(x(u), u), x(u) the minimiser of h(., u). The gradient is Danskin's: it takes no derivative of the
    minimisers. Both are solved to a distance of at most ``tolerance``, whose effect on the gradient is at most
    ``2 ‖J‖ tolerance / sigma`` to first order: choose it well below sigma times the error wanted.

    Work on the penalized problem is added to the oracle's counts, two gradients for the differences included.

    Args:
        sigma: positive.
        solver: one that takes no second derivatives, such as ``accelerated_gradient``, keeps it a first-order
            method.
        start: where the solves start, (w, y), such as those of an earlier hypergradient; None takes the
            objective's own start for w, and w for y.

    Raises:
        SettingError: if sigma or the tolerance is not positive, or h has a term that is not smooth.
        NotStronglyConvex: if h is not strongly convex, or sigma too large for a g that is not convex.

    Source: "On Penalty Methods for Nonconvex Bilevel Optimization and First-Order Stochastic Approximation"
    (arXiv 2309.01753), section 1.

    >>> from selftune.objectives.tasks.quadratic_bilevel import QuadraticBilevel
    >>> from selftune.hypergradients.lower_solvers import AcceleratedGradient
    >>> problem = QuadraticBilevel(parameter_count=4, hyperparameter_count=2)
    >>> oracle, u = Oracle(problem), torch.ones(2, dtype=torch.float64)
    >>> z = penalty_hypergradient(oracle, u, sigma=1e-4, solver=AcceleratedGradient(), tolerance=1e-9).value
    >>> bool((z - problem.hypergradient(u)).norm() < 0.01 * z.norm())
    True
    """
    if not (sigma > 0 and math.isfinite(sigma)):
        raise SettingError("sigma", f"must be a positive number, got {sigma}")
    if oracle.nonsmooth:
        raise SettingError(
            "method", "the penalty method needs a smooth lower level, but this one has a term that is not"
        )
    above = Oracle(Penalized(oracle.objective, sigma), oracle.space)
    w = solver.solve(oracle, u, oracle.start_x() if start is None else start[0], tolerance)
    y = solver.solve(above, u, w.x if start is None else start[1], tolerance)
    leaf = u.detach().requires_grad_()
    with torch.enable_grad():
        values = oracle.space.values(leaf)
        at_y, at_w = oracle.unravel(y.x), oracle.unravel(w.x)
        rise = oracle.objective.lower(at_y, values) - oracle.objective.lower(at_w, values)
        psi = oracle.objective.upper(at_y, values) + rise / sigma
        (gradient,) = torch.autograd.grad(psi, leaf, materialize_grads=True)
    oracle.counts.grad += above.counts.grad + 2
    oracle.counts.hvp += above.counts.hvp
    oracle.counts.up += 1
    return PenaltyHypergradient(gradient, float(psi.detach()), w, y)
