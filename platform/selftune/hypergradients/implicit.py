"""Hypergradients by implicit differentiation: grad f = grad_u g - J' H^-1 grad_x g, to a residual."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch

from selftune.errors import SettingError
from selftune.hypergradients.linear_solvers import ConjugateGradient, LinearSolution, LinearSolver
from selftune.hypergradients.linear_solvers.linear_solver import Product, Reason, norm
from selftune.hypergradients.oracle import Oracle
from selftune.hypergradients.proximal import ProximalStep, ProximalSystem
from selftune.hypergradients.update_maps import UpdateMap
from selftune.shapes import Float, Tensor


@dataclass(frozen=True)
class Hypergradient:
    """An approximate hypergradient at (x, u), and what its error bound takes.

    ``residual`` is ‖H q - b‖ as measured, ``reason`` why the linear solver stopped, ``smallest_curvature`` and
    ``largest_curvature`` what it met: outside of the objective's constants they disprove them.
    """

    value: Float[Tensor, "d"]
    """z = grad_u g(x, u) - J(x, u)' q."""
    q: Float[Tensor, "n"]
    """Solution of H q = b; along the active set's surface, if the lower level is not smooth."""
    upper: float
    """g(x, u)."""
    b: Float[Tensor, "n"]
    """grad_x g(x, u)."""
    residual: float
    products: int
    reason: Reason
    smallest_curvature: float = math.inf
    largest_curvature: float = 0.0
    step: ProximalStep | None = None
    """Of a lower level that is not smooth: the step whose fixed point was differentiated. All is at ``step.x``."""
    start: Float[Tensor, "n"] | None = None
    """Where the next system's solve may start; q itself, if the lower level is smooth."""

    @property
    def norm(self) -> float:
        """‖z‖."""
        return norm(self.value)


def implicit_hypergradient(
    oracle: Oracle,
    x: Float[Tensor, "n"],
    u: Float[Tensor, "d"],
    solver: LinearSolver,
    tolerance: float,
    start: Float[Tensor, "n"] | None = None,
    relative_tolerance: float = 0.1,
) -> Hypergradient:
    """The hypergradient at an approximate lower-level solution x.

    A lower level with a term that is not smooth is differentiated through the fixed point of a proximal gradient
    step from x, which costs one more gradient (see ``hypergradients.proximal``): the system is that of the
    directions that the active set leaves free, and everything is taken at the step's end.

    The residual of H q = b is held to ``min(tolerance, relative_tolerance ‖b‖)``. Without the second bound a
    loose tolerance gives q = 0, and z = 0 would be read as a stationary point; ``math.inf`` switches it off.

    Args:
        tolerance: absolute, positive.
        start: that of an earlier hypergradient.

    Raises:
        SettingError: if a tolerance is not positive, or autograd cannot follow the proximal map.
        NegativeCurvature: if the Hessian proves indefinite and the solver needs it definite.

    Source: "Hyperparameter optimization with approximate gradient" (arXiv 1602.02355), algorithm 1.

    >>> from selftune.objectives.tasks.quadratic_bilevel import QuadraticBilevel
    >>> from selftune.hypergradients.linear_solvers import ConjugateGradient
    >>> problem = QuadraticBilevel(parameter_count=4, hyperparameter_count=2)
    >>> oracle, u = Oracle(problem), torch.zeros(2, dtype=torch.float64)
    >>> z = implicit_hypergradient(oracle, problem.response(u), u, ConjugateGradient(), tolerance=1e-10).value
    >>> bool((z - problem.hypergradient(u)).norm() < 1e-8)
    True
    """
    if oracle.nonsmooth:
        step = ProximalStep(oracle, x, u)
        return _proximal_hypergradient(oracle, step, u, solver, tolerance, start, relative_tolerance)
    upper, b = oracle.upper_value_and_grad(x, u)
    tolerance = _tolerance(tolerance, relative_tolerance, b)
    solution = solver.solve(oracle.hvp(x, u), b, tolerance=tolerance, start=start)
    z = oracle.upper_grad_u(x, u) - oracle.JT(x, u, solution.x)
    return _hypergradient(z, upper, b, solution)


def _proximal_hypergradient(
    oracle: Oracle,
    step: ProximalStep,
    u: Tensor,
    solver: LinearSolver,
    tolerance: float,
    start: Tensor | None,
    relative_tolerance: float,
) -> Hypergradient:
    upper, b = oracle.upper_value_and_grad(step.x, u)
    system = ProximalSystem(step, oracle.hvp(step.x, u))
    right = step.D(b)
    tolerance = _tolerance(tolerance, relative_tolerance, right)
    solution = solver.solve(system.product, right, tolerance=tolerance, start=start)
    q = step.D(solution.x)
    z = oracle.upper_grad_u(step.x, u) - oracle.JT(step.x, u, q) + system.by_prox(q, b)
    found = _hypergradient(z, upper, b, solution)
    return replace(
        found,
        q=q,
        smallest_curvature=system.smallest_curvature,
        largest_curvature=system.largest_curvature,
        step=step,
        start=solution.x,
    )


def _tolerance(tolerance: float, relative_tolerance: float, right: Tensor) -> float:
    size = norm(right)
    return min(tolerance, relative_tolerance * size) if size > 0 else tolerance


def shifted_hypergradient(
    oracle: Oracle, u: Float[Tensor, "d"], hypergradient: Hypergradient, shift: Float[Tensor, "n"]
) -> Float[Tensor, "d"]:
    """z of a lower level that is not smooth, at a proximal step that starts ``shift`` away from the last end.

    How far it lies from the hypergradient estimates the effect of x not being the minimiser. The system is solved
    to a tenth of the residual.
    """
    assert hypergradient.step is not None
    step = ProximalStep(oracle, hypergradient.step.x + shift, u)
    tolerance = max(hypergradient.residual / 10, torch.finfo(shift.dtype).tiny)
    found = _proximal_hypergradient(oracle, step, u, ConjugateGradient(), tolerance, hypergradient.start, 0.01)
    return found.value


def fixed_point_hypergradient(
    oracle: Oracle,
    update: UpdateMap,
    x: Float[Tensor, "n"],
    u: Float[Tensor, "d"],
    solver: LinearSolver,
    tolerance: float,
    start: Float[Tensor, "n"] | None = None,
) -> Hypergradient:
    """The hypergradient through the fixed point x of an update map: z = grad_u g + B'q, with q = A'q + b.

    A = dPhi/dx, B = dPhi/du. ``FixedPoint`` solves it for any contraction Phi; the other solvers need A
    symmetric, as it is for a gradient step. For a step of length a, q is 1/a times that of
    ``implicit_hypergradient``, and so is what the residual means.

    Source: "On the Iteration Complexity of Hypergradient Computation" (arXiv 2006.16218), section 3.
    """
    upper, b = oracle.upper_value_and_grad(x, u)
    pull = update.pull_x(x, u)
    solution = solver.solve(lambda v: v - pull(v), b, tolerance=tolerance, start=start)
    z = oracle.upper_grad_u(x, u) + update.pull_u(x, u, solution.x)
    return _hypergradient(z, upper, b, solution)


def _hypergradient(z: Tensor, upper: float, b: Tensor, solution: LinearSolution) -> Hypergradient:
    return Hypergradient(
        z,
        solution.x,
        upper,
        b,
        solution.residual,
        solution.products,
        solution.reason,
        solution.smallest_curvature,
        solution.largest_curvature,
        start=solution.x,
    )


@dataclass(frozen=True)
class CorrectedHypergradient:
    """A hypergradient corrected to first order in the errors of x and q."""

    value: Float[Tensor, "d"]
    """z_c."""
    change: float
    """‖z_c - z‖: an estimate of the error of z, not a bound."""
    newton_step: Float[Tensor, "n"]
    """H^-1 grad_x h(x): to first order x minus the lower level's minimiser."""
    products: int
    """Hessian products of the two solves."""


def corrected_hypergradient(
    oracle: Oracle,
    x: Float[Tensor, "n"],
    u: Float[Tensor, "d"],
    hypergradient: Hypergradient,
    solver: LinearSolver,
    relative_tolerance: float = 1e-6,
) -> CorrectedHypergradient:
    """Removes the first-order effect of x not being the minimiser and of q not being H^-1 b.

    With s = H^-1 grad_x h(x) and r = b - H q:
    z_c = z + (D_x J[s])'q + J'w - (D_x grad_u g)[s], where H w = (D_x b)[s] - (D_x H[s]) q - r.
    The directional derivatives D_x[s] are central differences. The error is quadratic in those of x and q. Costs
    two solves, one gradient, two Hessian and three mixed products, and five evaluations of the upper level.

    Args:
        relative_tolerance: residual of the two solves, relative to their right-hand sides.

    Raises:
        SettingError: if the lower level has a term that is not smooth.

    >>> from selftune.objectives.tasks.quadratic_bilevel import QuadraticBilevel
    >>> from selftune.hypergradients.linear_solvers import ConjugateGradient
    >>> problem, cg = QuadraticBilevel(parameter_count=4, hyperparameter_count=2), ConjugateGradient()
    >>> oracle, u = Oracle(problem), torch.zeros(2, dtype=torch.float64)
    >>> x = problem.response(u) + 0.1  # far from the minimiser; the quadratic has no second-order error
    >>> z_c = corrected_hypergradient(oracle, x, u, implicit_hypergradient(oracle, x, u, cg, 0.1), cg).value
    >>> bool((z_c - problem.hypergradient(u)).norm() < 1e-4)
    True
    """
    if oracle.nonsmooth:
        raise SettingError("oracle", "the correction needs a lower level without terms that are not smooth")
    q = hypergradient.q
    hvp = oracle.hvp(x, u)
    gradient = oracle.grad_x(x, u)
    s, products = _solve(solver, hvp, gradient, relative_tolerance)
    # The step that balances truncation against rounding, along s and in the scale of x.
    length = norm(s)
    t = torch.finfo(x.dtype).eps ** (1 / 3) * max(1.0, norm(x)) / length if length > 0 else 1.0
    ahead, behind = x + t * s, x - t * s
    d_b = (oracle.upper_grad_x(ahead, u) - oracle.upper_grad_x(behind, u)) / (2 * t)
    d_hessian = (oracle.hvp(ahead, u)(q) - oracle.hvp(behind, u)(q)) / (2 * t)
    d_jacobian = (oracle.JT(ahead, u, q) - oracle.JT(behind, u, q)) / (2 * t)
    d_upper = (oracle.upper_grad_u(ahead, u) - oracle.upper_grad_u(behind, u)) / (2 * t)
    r = hypergradient.b - hvp(q)
    w, more = _solve(solver, hvp, d_b - d_hessian - r, relative_tolerance)
    change = d_jacobian + oracle.JT(x, u, w) - d_upper
    return CorrectedHypergradient(hypergradient.value + change, norm(change), s, products + more)


def _solve(solver: LinearSolver, product: Product, b: Tensor, relative_tolerance: float) -> tuple[Tensor, int]:
    size = norm(b)
    if size == 0:
        return torch.zeros_like(b), 0
    solution = solver.solve(product, b, tolerance=relative_tolerance * size)
    return solution.x, solution.products
