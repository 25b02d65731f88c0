"""What every linear solver takes and returns: H q = b by products with H, to a residual that was measured."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import torch

from selftune.errors import SettingError
from selftune.lower_level.smooth_objective import NotStronglyConvex
from selftune.shapes import Float, Tensor

Product = Callable[[Tensor], Tensor]
"""v -> H v, from (n,) to (n,); linear, and the same map on every call."""

Reason = Literal["tolerance", "cap", "stagnation"]

MAX_PRODUCTS = 20_000
"""Products per solve, unless a solver is told otherwise."""

_RITZ_STEPS = 60  # of conjugate gradients whose Ritz values are looked at


class NegativeCurvature(NotStronglyConvex):
    """A direction v with v'Hv <= 0: ``curvature`` is the smallest v'Hv / v'v met in ``products`` products.

    >>> print(NegativeCurvature(-0.25, 7))
    the Hessian of the lower level is not positive definite: the smallest curvature met in 7 products is -0.25; add
    strong convexity (weight decay, a proximal term) or solve with minres
    """

    def __init__(self, curvature: float, products: int, rounding: bool = False) -> None:
        super().__init__(curvature)
        hint = (
            "no larger than the rounding errors of the products: compute in float64, or add strong convexity"
            if rounding
            else "add strong convexity (weight decay, a proximal term) or solve with minres"
        )
        message = "the Hessian of the lower level is not positive definite: the smallest curvature met in"
        self.args = (f"{message} {products} products is {curvature:.3g}; {hint}",)
        self.products = products
        self.rounding = rounding

    def __reduce__(self) -> tuple[type[NegativeCurvature], tuple[float, int, bool]]:  # type: ignore[override]
        return type(self), (self.curvature, self.products, self.rounding)  # raised on a worker, read on the driver


@dataclass(frozen=True)
class LinearSolution:
    """An approximate solution of H x = b and what is known about it."""

    x: Float[Tensor, "n"]
    residual: float
    """‖b - H x‖ of this ``x``, from a product with it, never from a recurrence."""
    products: int
    """All products with H, those that measured residuals included."""
    reason: Reason
    """``tolerance``: the residual meets it. ``cap``: products ran out. ``stagnation``: rounding or the matrix
    allows no further progress."""
    smallest_curvature: float = math.inf
    """The smallest v'Hv / v'v or Ritz value met: at least H's smallest eigenvalue; inf if no step measured one."""
    largest_curvature: float = 0.0
    """The largest ‖Hv‖ / ‖v‖ or Ritz value met: at most H's largest eigenvalue; 0 if no step measured one."""


class LinearSolver(Protocol):
    """Solves H x = b for symmetric H, given as a product."""

    def solve(
        self, product: Product, b: Float[Tensor, "n"], *, tolerance: float, start: Float[Tensor, "n"] | None = None
    ) -> LinearSolution:
        """An ``x`` with ‖b - H x‖ <= ``tolerance`` (absolute), or the best found, with the reason.

        Where ‖b‖ <= tolerance that is zero, at no product. A start costs one product, which measures its
        residual; one whose residual exceeds ‖b‖ is not used.

        Raises:
            SettingError: if the tolerance is not a positive number.
            NegativeCurvature: if the solver needs a positive definite H and met proof that it is not.
            FloatingPointError: if b or a product is not finite.
        """
        ...


class LinearSystem:
    """One system on its way to a solution: counts and checks products, remembers curvature.

    Args:
        max_products: at least 1; one is kept back to measure the final residual.

    Raises:
        SettingError, FloatingPointError: as ``LinearSolver.solve``.

    >>> system = LinearSystem(lambda v: 2 * v, torch.ones(4), 1e-6, 10)
    >>> system.solution(torch.ones(4) / 2, torch.zeros(4), "tolerance").residual
    0.0
    """

    def __init__(self, product: Product, b: Float[Tensor, "n"], tolerance: float, max_products: int) -> None:
        if not (tolerance > 0 and math.isfinite(tolerance)):
            raise SettingError("tolerance", f"must be a positive number, got {tolerance}; rounding forbids zero")
        if max_products < 1:
            raise SettingError("max_products", f"must be at least 1, got {max_products}")
        self._product = product
        self.b = b.detach()
        self.tolerance = tolerance
        self.max_products = max_products
        self.products = 0
        self.smallest_curvature = math.inf
        self.largest_curvature = 0.0
        if not math.isfinite(norm(self.b)):
            raise FloatingPointError("the right-hand side of the linear system is not finite")

    @property
    def exhausted(self) -> bool:
        """Whether only the product that measures the final residual is left."""
        return self.products + 1 >= self.max_products

    @torch.no_grad()
    def product(self, v: Float[Tensor, "n"]) -> Float[Tensor, "n"]:
        """H v, counted."""
        self.products += 1
        result = self._product(v).detach()
        if not math.isfinite(float(result.sum())):
            raise FloatingPointError(f"product {self.products} with the matrix of the linear system is not finite")
        return result

    def curvature(self, v: Float[Tensor, "n"], product: Float[Tensor, "n"]) -> float:
        """v'Hv, remembered as a Rayleigh quotient.

        Raises:
            NegativeCurvature: if it is not positive.
        """
        curvature, square = dot(v, product), dot(v, v)
        self.smallest_curvature = min(self.smallest_curvature, curvature / square)
        self.largest_curvature = max(self.largest_curvature, norm(product) / math.sqrt(square))
        if not curvature > 0:
            rounding = 10 * torch.finfo(v.dtype).eps * self.largest_curvature
            raise NegativeCurvature(self.smallest_curvature, self.products, -self.smallest_curvature <= rounding)
        return curvature

    def ritz(self, steps: Sequence[float], ratios: Sequence[float], shift: float = 0.0) -> None:
        """Remembers the extreme Ritz values of conjugate gradients on H + shift I, which see more than directions.

        Args:
            steps: alpha of every step.
            ratios: beta after every step.
        """
        known = min(len(steps), _RITZ_STEPS)
        if known < 2:
            return
        alpha = torch.tensor(steps[:known], dtype=torch.float64)
        beta = torch.tensor(ratios[: known - 1], dtype=torch.float64)
        diagonal = 1 / alpha
        diagonal[1:] += beta / alpha[:-1]
        beside = beta.sqrt() / alpha[:-1]
        tridiagonal = torch.diag(diagonal) + torch.diag(beside, 1) + torch.diag(beside, -1)
        if bool(torch.isfinite(tridiagonal).all()):
            values = torch.linalg.eigvalsh(tridiagonal) - shift
            self.smallest_curvature = min(self.smallest_curvature, float(values[0]))
            self.largest_curvature = max(self.largest_curvature, float(values[-1]))

    def residual(self, x: Float[Tensor, "n"]) -> Float[Tensor, "n"]:
        """b - H x."""
        return self.b - self.product(x)

    def begin(self, start: Float[Tensor, "n"] | None) -> tuple[Float[Tensor, "n"], Float[Tensor, "n"]]:
        """The point to start from and its residual."""
        if start is not None and norm(self.b) > self.tolerance:
            x = start.detach()
            residual = self.residual(x)
            if norm(residual) <= norm(self.b):
                return x, residual
        return torch.zeros_like(self.b), self.b

    def solution(self, x: Float[Tensor, "n"], residual: Float[Tensor, "n"], reason: Reason) -> LinearSolution:
        """The solution ``x``, whose residual was measured."""
        smallest, largest = self.smallest_curvature, self.largest_curvature
        return LinearSolution(x, norm(residual), self.products, reason, smallest, largest)


def refine(
    system: LinearSystem, start: Tensor | None, correct: Callable[[Tensor, float], Tensor]
) -> LinearSolution:
    """Solves by corrections x += H^-1 r until the measured residual meets the tolerance.

    The residual that a Krylov method carries along drifts from b - H x as rounding errors pile up. So each
    correction is followed by a measurement, and by another correction where that disagrees: residual
    replacement in its plainest form.

    Args:
        correct: (r, target) -> d with ‖r - H d‖ <= target, as far as the method knows; ‖r‖ = 1. It stops when
            the system is exhausted.
    """
    x, residual = system.begin(start)
    size = norm(residual)
    margin, eps = 1.0, torch.finfo(residual.dtype).eps
    while size > system.tolerance:
        if system.products >= system.max_products:
            return system.solution(x, residual, "cap")
        target = max(margin * system.tolerance / size, eps)  # one pass gains no more digits than the type has
        new_x = x + size * correct(residual / size, target)
        new_residual = system.residual(new_x)
        new_size = norm(new_residual)
        progress = new_size <= max(size / 2, system.tolerance)
        capped = system.exhausted
        if new_size < size:
            x, residual, size = new_x, new_residual, new_size
        if not progress:
            return system.solution(x, residual, "cap" if capped else "stagnation")
        margin = 0.1  # the first pass met its target by its own account only
    return system.solution(x, residual, "tolerance")


def norm(v: Tensor) -> float:
    """‖v‖, with neither overflow nor underflow where ‖v‖ itself has none.

    >>> norm(torch.tensor([3e30, 4e30])) / 5e30
    1.0000000...
    """
    largest = float(v.abs().max()) if v.numel() else 0.0
    return largest * float(torch.linalg.vector_norm(v / largest)) if 0 < largest < math.inf else largest


def dot(v: Tensor, w: Tensor) -> float:
    """v'w."""
    return float(torch.dot(v, w))
