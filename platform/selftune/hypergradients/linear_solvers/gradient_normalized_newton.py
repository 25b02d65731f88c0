"""Gradient-normalised Newton: Newton steps regularised by the gradient norm over an adaptive radius."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import final

import torch

from selftune.errors import SettingError
from selftune.hypergradients.linear_solvers.conjugate_gradient import ConjugateGradient, descend
from selftune.hypergradients.linear_solvers.linear_solver import (
    MAX_PRODUCTS,
    LinearSolution,
    LinearSystem,
    NegativeCurvature,
    Product,
    norm,
    refine,
)
from selftune.shapes import Bool, Float, Tensor

MAX_HALVINGS = 40


def gradient_normalized_newton(
    gradient: Float[Tensor, "d"], curvature: Float[Tensor, "d d"], *, radius: float, epsilon: float = 1e-8
) -> Float[Tensor, "d"]:
    """The step -(H + lambda I)^-1 g with lambda = ‖g‖ / (radius + epsilon), for positive semi-definite H.

    Its norm is at most radius + epsilon. A large radius gives the Newton step, a small one -radius g/‖g‖.

    Raises:
        torch.linalg.LinAlgError: if H + lambda I is not positive definite.

    Source: "Gradient-Normalized Smoothness for Optimization with Approximate Hessians" (arXiv 2506.13710), alg. 1.

    >>> gradient_normalized_newton(torch.tensor([3.0, 4.0]), torch.zeros(2, 2), radius=1.0)
    tensor([-0.6000, -0.8000])
    """
    shift = torch.linalg.vector_norm(gradient) / (radius + epsilon)
    factor = torch.linalg.cholesky(curvature + shift * torch.eye(len(gradient)).to(gradient))
    return -torch.cholesky_solve(gradient[:, None], factor)[:, 0]


def gradient_normalized_acceptance(
    value: Float[Tensor, ""],
    new_value: Float[Tensor, ""],
    gradient: Float[Tensor, "d"],
    new_gradient: Float[Tensor, "d"],
    *,
    radius: float,
    epsilon: float = 1e-8,
    minimum: float = 1e-9,
) -> tuple[Bool[Tensor, ""], Float[Tensor, ""]]:
    """Whether a step lowered f by at least ‖new gradient‖² / (8 lambda), and the next radius.

    Accepted: max(2 radius, minimum); refused: radius / 2. A decrease counts up to the rounding error of the two
    values if the gradient shrank as well: near a minimum values are equal to the last digit long before
    gradients vanish.

    Source: "Gradient-Normalized Smoothness for Optimization with Approximate Hessians" (arXiv 2506.13710), alg. 1.

    >>> one, g = torch.tensor(1.0), torch.ones(1)
    >>> gradient_normalized_acceptance(one, 0 * one, g, 0 * g, radius=1.0)
    (tensor(True), tensor(2.))
    """
    size, new_size = torch.linalg.vector_norm(gradient), torch.linalg.vector_norm(new_gradient)
    needed = new_size.square() * (radius + epsilon) / (8 * size)
    decrease = value - new_value
    rounding = 4 * torch.finfo(value.dtype).eps * torch.maximum(value.abs(), new_value.abs())
    accepted = (decrease >= needed) | ((decrease >= needed - rounding) & (new_size < size))
    return accepted, torch.where(accepted, max(2 * radius, minimum), radius / 2).to(value)


@dataclass(frozen=True)
class NewtonStep:
    """One accepted step of ``minimize``: the value and gradient norm it led to, and how it was found."""

    value: float
    gradient_norm: float
    radius: float
    halvings: int


def minimize(
    value_and_gradient: Callable[[Tensor], tuple[Tensor, Tensor]],
    product: Callable[[Tensor], Product],
    start: Float[Tensor, "d"],
    *,
    radius: float = 1.0,
    steps: int = 1000,
    grad_tol: float = 1e-8,
    solve_tolerance: float = 1e-6,
) -> tuple[Float[Tensor, "d"], list[NewtonStep]]:
    """Minimises a smooth function by gradient-normalised Newton steps, solved by conjugate gradients.

    Where H + lambda I has negative curvature the radius is halved, as after a refused step; after 40 halvings the
    last step is taken if it lowers the function, and otherwise the search ends there.

    Args:
        value_and_gradient: x -> f(x), its gradient.
        product: x -> (v -> H v), with the Hessian at x or a positive semi-definite approximation of it.
        solve_tolerance: relative residual of the steps' linear systems.

    Returns:
        The point, and the accepted steps. Whether it converged is seen in the last gradient norm.

    Source: "Gradient-Normalized Smoothness for Optimization with Approximate Hessians" (arXiv 2506.13710), alg. 1.

    >>> x, history = minimize(lambda x: ((x - 1).square().sum() / 2, x - 1), lambda x: lambda v: v, torch.zeros(2))
    >>> x, len(history) < 20
    (tensor([1., 1.]), True)
    """
    if not grad_tol > 0:
        raise SettingError("grad_tol", f"must be positive, got {grad_tol}")
    x = start
    value, gradient = value_and_gradient(x)
    history: list[NewtonStep] = []
    while len(history) < steps and norm(gradient) >= grad_tol:
        hessian = product(x)
        for halvings in range(MAX_HALVINGS + 1):  # noqa: B007
            used = radius
            step = _step(hessian, gradient, radius, solve_tolerance)
            if step is None:
                radius = radius / 2
                continue
            new_value, new_gradient = value_and_gradient(x + step)
            accepted, new_radius = gradient_normalized_acceptance(
                value, new_value, gradient, new_gradient, radius=radius
            )
            radius = float(new_radius)
            if accepted:
                break
        if step is None or not (accepted or new_value < value):
            break
        x, value, gradient = x + step, new_value, new_gradient
        history.append(NewtonStep(float(value), norm(gradient), used, halvings))
    return x, history


def _step(hessian: Product, gradient: Tensor, radius: float, tolerance: float) -> Tensor | None:
    """-(H + lambda I)^-1 g, or None where that matrix has negative curvature."""
    size = norm(gradient)
    shift = size / (radius + 1e-8)
    try:
        solution = ConjugateGradient().solve(
            lambda v: hessian(v) + shift * v, -gradient / size, tolerance=tolerance
        )
    except NegativeCurvature:
        return None
    return size * solution.x


@final
@dataclass(frozen=True)
class GradientNormalizedNewton:
    """Linear systems by gradient-normalised Newton steps on x'Hx/2 - b'x, for positive definite H.

    ``minimize`` is the method proper; on a quadratic it accepts every step and doubles the radius. Each inner
    system H + lambda I is better conditioned than H, which helps where H is nearly singular; elsewhere conjugate
    gradients alone need fewer products.

    Args:
        radius: the first, relative to the right-hand side, whose norm counts as 1.

    Source: "Gradient-Normalized Smoothness for Optimization with Approximate Hessians" (arXiv 2506.13710).

    >>> matrix = torch.tensor([[2.0, 1.0], [1.0, 3.0]])
    >>> GradientNormalizedNewton().solve(lambda v: matrix @ v, torch.tensor([3.0, 4.0]), tolerance=1e-5).x
    tensor([1.0000, 1.0000])
    """

    radius: float = 1.0
    max_products: int = MAX_PRODUCTS

    def __post_init__(self) -> None:
        if not (self.radius > 0 and math.isfinite(self.radius)):
            raise SettingError("radius", f"must be a positive number, got {self.radius}")

    def solve(
        self, product: Product, b: Float[Tensor, "n"], *, tolerance: float, start: Float[Tensor, "n"] | None = None
    ) -> LinearSolution:
        """See ``LinearSolver.solve``."""
        system = LinearSystem(product, b, tolerance, self.max_products)
        return refine(system, start, lambda r, target: self._correct(system, r, target))

    def _correct(self, system: LinearSystem, r: Tensor, target: float) -> Tensor:
        x, radius, size = torch.zeros_like(r), self.radius, norm(r)
        while size > target and not system.exhausted:
            step = descend(system, r / size, max(1e-6, 0.1 * target / size), shift=size / (radius + 1e-8)) * size
            if system.exhausted:
                return x + step
            product = system.product(step)
            system.curvature(step, product)  # raises where the shift hid negative curvature from the step's solve
            new_r = r - product
            if norm(new_r) >= size:  # the floor of the arithmetic
                return x
            x, r, size = x + step, new_r, norm(new_r)
            radius *= 2
        return x
