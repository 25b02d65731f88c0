"""A trainer of smooth objectives: solves the lower level to a tolerance, with certificates."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch

from selftune.hypergradients.curvature import UpperChords, compare_products
from selftune.hypergradients.derivative_check import check_derivatives
from selftune.hypergradients.error_bounds import error_bound, lower_bound, upper_bound
from selftune.hypergradients.implicit import implicit_hypergradient
from selftune.hypergradients.linear_solvers.conjugate_gradient import ConjugateGradient
from selftune.hypergradients.lower_solvers import lower_solvers
from selftune.hypergradients.oracle import Oracle
from selftune.hypergradients.proximal import ProximalStep
from selftune.lower_level.smooth_objective import SmoothObjective
from selftune.methods import Report, WorkOrder
from selftune.shapes import Float, Tensor
from selftune.storage.state_tree import record


@record
@dataclass(frozen=True)
class WarmStart:
    """Where a solve starts: parameters, and the solution of the last linear system."""

    x: Float[Tensor, "n"]
    q: Float[Tensor, "n"] | None


@dataclass(frozen=True)
class Outcome:
    """What an order came to, before it is a report."""

    metrics: Mapping[str, float]
    payload: Mapping[str, Tensor] = field(default_factory=dict)
    message: str = ""


class SmoothTrainer:
    """Executes orders on a smooth objective: a report is a function of the order and its warm start.

    Kinds of orders: ``hypergradient`` (solve, implicit hypergradient, error bound), ``trial`` (solve at a
    candidate and bound the upper level there), ``finish`` (metrics, parameters, the hyperparameters; its
    message repeats why the method stopped).

    Args:
        objective: the two levels.
        member: position in the team; members are alike.
        solver: name of a lower-level solver.
        cpus: threads that torch may use, at least 1.
    """

    KEPT: ClassVar[int] = (
        64  # states of earlier orders; a search refers to the current and the previous point only
    )

    def __init__(
        self,
        objective: SmoothObjective,
        *,
        member: int = 0,
        solver: str = "newton",
        cpus: float = 1,
    ) -> None:
        torch.set_num_threads(max(1, int(cpus)))
        self.member = member
        self.objective = objective
        self.oracle = Oracle(objective)
        self.space = self.oracle.space
        self.solver = lower_solvers[solver]()
        self._states: dict[str, WarmStart] = {}
        self._handlers: dict[str, Callable[[Mapping[str, Any], WarmStart], Outcome]] = {
            "hypergradient": self._hypergradient,
            "trial": self._trial,
            "finish": self._finish,
        }

    def execute(self, order: WorkOrder, warm: WarmStart | None = None) -> Report:
        """Executes one order from ``warm``, from the state it names, or cold."""
        started = time.perf_counter()
        before = self.oracle.counts.copy()
        key = order.body.get("warm")
        start = warm or (self._states.get(key) if key is not None else None)
        outcome = self._handlers[order.kind](order.body, start or WarmStart(self.oracle.start_x(), None))
        spent = self.oracle.counts - before
        metrics = {
            **outcome.metrics,
            "gradients": float(spent.grad),
            "products": float(spent.hvp + spent.jac),
            "work": float(spent.work),
            "seconds": time.perf_counter() - started,
        }
        payload = {name: tensor.detach().cpu() for name, tensor in outcome.payload.items()}
        return Report(order.kind, order.number, metrics, payload, outcome.message)

    def export_state(self, key: str) -> WarmStart | None:
        """The state kept under a key, for another trainer to start from; None if it is no longer kept."""
        return self._states.get(key)

    def _keep(self, key: str, state: WarmStart) -> None:
        self._states[key] = state
        while len(self._states) > self.KEPT:
            del self._states[next(iter(self._states))]

    def _hypergradient(self, body: Mapping[str, Any], warm: WarmStart) -> Outcome:
        u = body["unconstrained"].to(self.oracle.start_x())
        solution = self.solver.solve(self.oracle, u, warm.x, body["error"])
        hypergradient = implicit_hypergradient(
            self.oracle, solution.x, u, ConjugateGradient(), body["residual"], start=warm.q
        )
        step = hypergradient.step
        constants = compare_products(
            self.oracle.constants(u),
            hypergradient.smallest_curvature,
            hypergradient.largest_curvature,
            hypergradient.b,
        )
        self.oracle.settle(u, constants)
        x = solution.x if step is None else step.x  # where it was taken; as close to the minimiser
        self._keep(body["key"], WarmStart(x, hypergradient.start))
        level, slope = hypergradient.upper, float(hypergradient.b.norm())
        bound = by_residual = float("nan")
        if body["bounds"] == "always" or (body["bounds"] == "free" and constants.certified):
            known = error_bound(self.oracle, x, u, solution.error, hypergradient)
            bound = known.omega
            if constants.certified:
                by_residual = known.by_residual
        identified = {}
        certified = constants.certified
        if step is not None:
            certified = certified and step.identifies(solution.error)
            identified = {"active_set_certified": float(certified)}
        metrics = {
            "error": solution.error,
            "residual": hypergradient.residual,
            "bound": bound,
            "bound_by_residual": by_residual,
            "slope": slope,
            "lower_bound": lower_bound(level, slope, solution.error, constants),
            "validation_loss": level,
            "certified": float(certified),
            **identified,
        }
        return Outcome(metrics, {"hypergradient": hypergradient.value.double()})

    def _trial(self, body: Mapping[str, Any], warm: WarmStart) -> Outcome:
        u = body["unconstrained"].to(self.oracle.start_x())
        threshold = body["threshold"]
        constants = self.oracle.constants(u)
        upper = UpperChords(constants)

        def decided(x: Tensor, error: float) -> bool:
            level, gradient = self.oracle.upper_value_and_grad(x, u)
            upper.met(x, gradient)
            slope = float(gradient.norm())
            if body["early_rejection"] and lower_bound(level, slope, error, constants) > threshold:
                return True
            return bool(body["early_acceptance"] and upper_bound(level, slope, error, constants) <= threshold)

        solution = self.solver.solve(self.oracle, u, warm.x, body["error"], reject=decided)
        constants = self.oracle.constants(u)  # estimates may have given way to what the solve met
        level, gradient = self.oracle.upper_value_and_grad(solution.x, u)
        upper.met(solution.x, gradient)
        bound = upper_bound(level, float(gradient.norm()), solution.error, constants)
        accepted = bound <= threshold
        if accepted:
            self._keep(body["key"], WarmStart(solution.x, warm.q))
        tree = self.oracle.unravel(solution.x)
        metrics = {
            "accepted": float(accepted),
            "hopeless": float(lower_bound(level, float(gradient.norm()), solution.error, constants) > threshold),
            "upper_bound": bound,
            "error": solution.error,
            "validation_loss": level,
            "training_loss": self.objective.training_loss(tree, self.oracle.values(u)),
        }
        return Outcome(metrics)

    def _finish(self, body: Mapping[str, Any], warm: WarmStart) -> Outcome:
        u = body["unconstrained"].to(self.oracle.start_x())
        solution = self.solver.solve(self.oracle, u, warm.x, body["error"])
        tree, values = self.oracle.unravel(solution.x), self.oracle.values(u)
        metrics = {
            "training_loss": self.objective.training_loss(tree, values),
            "validation_loss": float(self.objective.upper(tree, values)),
            **self.objective.metrics(tree, values),
        }
        if self.oracle.nonsmooth:
            step = ProximalStep(self.oracle, solution.x, u)
            certified = self.oracle.constants(u).certified and step.identifies(solution.error)
            metrics["active_set_certified"] = float(certified)
        payload = {f"parameters.{name}": tensor for name, tensor in tree.items()}
        return Outcome(metrics, {**payload, "unconstrained": u}, body.get("stopped", ""))

    def state_dict(self) -> dict[str, Any]:
        """The warm starts: everything later reports depend on beside their orders."""
        return {"states": dict(self._states)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._states = dict(state["states"])


@dataclass(frozen=True)
class SmoothTrainerFactory:
    """Makes the trainers of a team, in this process or in others; called with the member's number.

    Raises:
        SettingError: if a derivative of the objective contradicts finite differences.
    """

    objective: SmoothObjective
    solver: str = "newton"
    cpus: float = 1

    def __post_init__(self) -> None:
        check_derivatives(self.objective)

    def __call__(self, member: int) -> SmoothTrainer:
        return SmoothTrainer(self.objective, member=member, solver=self.solver, cpus=self.cpus)
