"""A trainer of smooth objectives: solves the lower level to a tolerance, with certificates."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

import torch

from selftune.errors import SettingError, suggestion
from selftune.hypergradients.curvature import UpperChords, compare_products
from selftune.hypergradients.error_bounds import error_bound, lower_bound, upper_bound
from selftune.hypergradients.implicit import implicit_hypergradient
from selftune.hypergradients.linear_solvers import LinearSolver, linear_solvers
from selftune.hypergradients.lower_solvers import lower_solvers
from selftune.hypergradients.oracle import Oracle
from selftune.hypergradients.proximal import ProximalStep
from selftune.lower_level.smooth_objective import SmoothObjective
from selftune.methods.reports import CandidateSolved, Differentiated, Report, Solved, SolvingFinished
from selftune.methods.work_orders import Differentiate, FinishSolving, Solve, SolveCandidate, WorkOrder
from selftune.shapes import Float, Tensor
from selftune.storage.state_tree import record
from selftune.training.smooth_checks import problem_mistakes

LinearSolverName = Literal[
    "conjugate_gradient",
    "deep_conjugate_direction",
    "minres",
    "gradient_normalized_newton",
    "greedy_block_coordinate_descent",
]
"""Solvers of symmetric positive definite systems that need no settings."""


@record
@dataclass(frozen=True)
class WarmStart:
    """Where a solve starts: parameters, and the solution of the last linear system."""

    x: Float[Tensor, "n"]
    q: Float[Tensor, "n"] | None


class SmoothTrainer:
    """Executes orders on a smooth objective: a report is a function of the order and its warm start.

    It takes ``Differentiate`` (solve, implicit hypergradient, error bound), ``SolveCandidate`` (solve at a
    candidate and bound the upper level there) and ``FinishSolving`` (metrics, parameters, the hyperparameters; its
    message repeats why the method stopped).

    Args:
        objective: the two levels.
        member: position in the team; members are alike.
        solver: name of a lower-level solver.
        linear_solver: what solves the hypergradient's linear system, or its name if it needs no settings.
        cpus: threads that torch may use, at least 1.
    """

    def __init__(
        self,
        objective: SmoothObjective,
        *,
        member: int = 0,
        solver: str = "newton",
        linear_solver: str | LinearSolver = "conjugate_gradient",
        cpus: float = 1,
    ) -> None:
        torch.set_num_threads(max(1, int(cpus)))
        self.member = member
        self.objective = objective
        self.oracle = Oracle(objective)
        self.space = self.oracle.space
        self.solver = lower_solvers[solver]()
        self.linear_solver: LinearSolver = (
            linear_solvers[linear_solver]() if isinstance(linear_solver, str) else linear_solver
        )
        self._states: dict[str, WarmStart] = {}

    def execute(self, order: WorkOrder, warm: WarmStart | None = None) -> Report:
        """Executes one order from the state it names, which is kept or came along as ``warm``, or cold."""
        started = time.perf_counter()
        before = self.oracle.counts.copy()
        if not isinstance(order, Solve | FinishSolving):
            raise TypeError(f"a trainer of smooth problems has no {type(order).__name__} to do")
        start = self._go_on_from(order, warm)
        report = self._executed(order, start or WarmStart(self.oracle.start_x(), None))
        spent = self.oracle.counts - before
        return replace(
            report,
            number=order.number,
            version=order.version,
            gradients=spent.grad,
            products=spent.hvp + spent.jac,
            work=spent.work,
            seconds=time.perf_counter() - started,
        )

    def _executed(self, order: Solve | FinishSolving, warm: WarmStart) -> Solved:
        match order:
            case Differentiate():
                return self._differentiate(order, warm)
            case SolveCandidate():
                return self._candidate(order, warm)
            case FinishSolving():
                return self._finish(order, warm)
        raise TypeError(f"a trainer of smooth problems has no {type(order).__name__} to do")

    def export_state(self, key: str) -> WarmStart | None:
        """The state kept under a key, for another trainer to start from; None if it is no longer kept."""
        return self._states.get(key)

    def _go_on_from(self, order: Solve | FinishSolving, warm: WarmStart | None) -> WarmStart | None:
        """The state that an order names, if it is there; those that no order will name again are forgotten."""
        start = warm if order.start is None else self._states.get(order.start, warm)
        if order.start is not None and start is not None:
            self._states[order.start] = start
        self._states = {key: state for key, state in self._states.items() if key in order.states}
        return start

    def _differentiate(self, order: Differentiate, warm: WarmStart) -> Differentiated:
        u = order.values.unconstrained.to(self.oracle.start_x())
        solution = self.solver.solve(self.oracle, u, warm.x, order.error)
        hypergradient = implicit_hypergradient(
            self.oracle, solution.x, u, self.linear_solver, order.residual, start=warm.q
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
        self._states[order.end] = WarmStart(x, hypergradient.start)
        level, slope = hypergradient.upper, float(hypergradient.b.norm())
        bound = by_residual = float("nan")
        if order.bounds == "always" or (order.bounds == "free" and constants.certified):
            known = error_bound(self.oracle, x, u, solution.error, hypergradient)
            bound = known.omega
            if constants.certified:
                by_residual = known.by_residual
        certified, identified = constants.certified, None
        if step is not None:
            certified = identified = certified and step.identifies(solution.error)
        return Differentiated(
            hypergradient=hypergradient.value.double().detach().cpu(),
            error=solution.error,
            residual=hypergradient.residual,
            bound=bound,
            bound_by_residual=by_residual,
            slope=slope,
            lower_bound=lower_bound(level, slope, solution.error, constants),
            validation_loss=level,
            certified=bool(certified),
            active_set_certified=identified,
        )

    def _candidate(self, order: SolveCandidate, warm: WarmStart) -> CandidateSolved:
        u = order.values.unconstrained.to(self.oracle.start_x())
        threshold = order.threshold
        constants = self.oracle.constants(u)
        upper = UpperChords(constants)

        def decided(x: Tensor, error: float) -> bool:
            level, gradient = self.oracle.upper_value_and_grad(x, u)
            upper.met(x, gradient)
            slope = float(gradient.norm())
            if order.early_rejection and lower_bound(level, slope, error, constants) > threshold:
                return True
            return bool(order.early_acceptance and upper_bound(level, slope, error, constants) <= threshold)

        solution = self.solver.solve(self.oracle, u, warm.x, order.error, reject=decided)
        constants = self.oracle.constants(u)  # estimates may have given way to what the solve met
        level, gradient = self.oracle.upper_value_and_grad(solution.x, u)
        upper.met(solution.x, gradient)
        bound = upper_bound(level, float(gradient.norm()), solution.error, constants)
        accepted = bound <= threshold
        if accepted:
            self._states[order.end] = WarmStart(solution.x, warm.q)
        tree = self.oracle.unravel(solution.x)
        return CandidateSolved(
            accepted=bool(accepted),
            hopeless=bool(lower_bound(level, float(gradient.norm()), solution.error, constants) > threshold),
            upper_bound=bound,
            error=solution.error,
            validation_loss=level,
            training_loss=self.objective.training_loss(tree, self.oracle.values(u)),
        )

    def _finish(self, order: FinishSolving, warm: WarmStart) -> SolvingFinished:
        u = order.values.unconstrained.to(self.oracle.start_x())
        solution = self.solver.solve(self.oracle, u, warm.x, order.error)
        tree, values = self.oracle.unravel(solution.x), self.oracle.values(u)
        measures = {
            "training_loss": self.objective.training_loss(tree, values),
            "validation_loss": float(self.objective.upper(tree, values)),
            **self.objective.metrics(tree, values),
        }
        if self.oracle.nonsmooth:
            step = ProximalStep(self.oracle, solution.x, u)
            certified = self.oracle.constants(u).certified and step.identifies(solution.error)
            measures["active_set_certified"] = float(certified)
        return SolvingFinished(
            measures=measures,
            parameters={name: tensor.detach().cpu() for name, tensor in tree.items()},
            unconstrained=u.detach().cpu(),
            message=order.stopped,
        )

    def state_dict(self) -> dict[str, Any]:
        """The warm starts: everything later reports depend on beside their orders."""
        return {"states": dict(self._states)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._states = dict(state["states"])


@dataclass(frozen=True)
class SmoothTrainerFactory:
    """Makes the trainers of a team, in this process or in others; called with the member's number.

    Args:
        objective: the two levels.
        solver: name of a lower-level solver.
        linear_solver: what solves the hypergradient's linear system: a name of ``LinearSolverName``, or a solver,
            such as ``DeepConjugateDirection(network)`` with a network that was trained on systems like these.
        cpus: threads that torch may use, at least 1.
        checked: whether ``problem_mistakes`` has found nothing wrong, so that nobody need look again.

    Raises:
        SettingError: if the solver is unknown or does not fit, if the lower level is not strongly convex at the
            start, or if a derivative of the objective contradicts finite differences.
    """

    objective: SmoothObjective
    solver: str = "newton"
    cpus: float = 1
    checked: bool = False
    linear_solver: LinearSolverName | LinearSolver = "conjugate_gradient"

    def __post_init__(self) -> None:
        if self.checked:
            return
        if self.solver not in lower_solvers:
            raise SettingError(
                "solver", f"unknown solver {self.solver!r}; {suggestion(self.solver, lower_solvers)}"
            )
        if isinstance(self.linear_solver, str) and self.linear_solver not in get_args(LinearSolverName):
            known = suggestion(self.linear_solver, get_args(LinearSolverName))
            raise SettingError("linear_solver", f"unknown solver {self.linear_solver!r}; {known}")
        for mistake in problem_mistakes(self.objective, self.solver):
            raise mistake.at_call()

    def __call__(self, member: int) -> SmoothTrainer:
        return SmoothTrainer(
            self.objective, member=member, solver=self.solver, linear_solver=self.linear_solver, cpus=self.cpus
        )
