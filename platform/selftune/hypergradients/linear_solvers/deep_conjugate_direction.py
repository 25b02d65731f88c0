"""Deep conjugate directions: a network proposes search directions, orthogonalisation makes them conjugate."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import final

import torch

from selftune.errors import SettingError
from selftune.hypergradients.linear_solvers.linear_solver import (
    MAX_PRODUCTS,
    LinearSolution,
    LinearSystem,
    Product,
    dot,
    norm,
    refine,
)
from selftune.shapes import Float, Tensor


def residual_preconditioner_loss(
    prediction: Float[Tensor, "batch n"], rhs: Float[Tensor, "batch n"], matrix: Float[Tensor, "n n"]
) -> Float[Tensor, "batch"]:
    """How much of each right-hand side b the best multiple of a predicted direction q leaves: ‖b - alpha A q‖².

    alpha = q'b / q'Aq, through which gradients flow. No solutions are needed as labels.

    Source: "A Deep Conjugate Direction Method for Iteratively Solving Linear Systems" (arXiv 2205.10763), its
    training loss.

    >>> matrix, b = torch.diag(torch.tensor([1.0, 4.0])), torch.tensor([[1.0, 4.0]])
    >>> residual_preconditioner_loss(3 * torch.ones(1, 2), b, matrix)  # a multiple of the solution (1, 1)
    tensor([0.])
    """
    products = prediction @ matrix
    alpha = (prediction * rhs).sum(-1, keepdim=True) / (prediction * products).sum(-1, keepdim=True)
    return (rhs - alpha * products).square().sum(-1)


def deep_conjugate_direction(
    candidate: Float[Tensor, "n"],
    residual: Float[Tensor, "n"],
    iterate: Float[Tensor, "n"],
    matrix: Float[Tensor, "n n"],
    previous: Float[Tensor, "count n"],
) -> tuple[Float[Tensor, "n"], Float[Tensor, "n"], Float[Tensor, "n"]]:
    """One step: the candidate made conjugate to the previous directions, and an exact line search along it.

    d = q - sum_p p (q'Ap / p'Ap); alpha = d'r / d'Ad. With the residual as candidate this is conjugate gradients.

    Returns:
        The new iterate x + alpha d, its residual r - alpha A d, and the direction d.

    Source: "A Deep Conjugate Direction Method for Iteratively Solving Linear Systems" (arXiv 2205.10763), alg. 1.

    >>> b, zero = torch.tensor([2.0, 4.0]), torch.zeros(2)
    >>> matrix = torch.diag(torch.tensor([1.0, 4.0]))
    >>> deep_conjugate_direction(torch.tensor([2.0, 1.0]), b, zero, matrix, torch.empty(0, 2))[1]  # b - A d
    tensor([0., 0.])
    """
    direction = _conjugate(candidate, [(p, p @ matrix) for p in previous])
    product = direction @ matrix
    alpha = torch.dot(direction, residual) / torch.dot(direction, product)
    return iterate + alpha * direction, residual - alpha * product, direction


def _conjugate(candidate: Tensor, previous: list[tuple[Tensor, Tensor]]) -> Tensor:
    """Classical Gram-Schmidt in the inner product of A; ``previous`` are pairs p, A p."""
    direction = candidate
    for p, product in previous:
        direction = direction - (torch.dot(candidate, product) / torch.dot(p, product)) * p
    return direction


def _itself(residual: Tensor) -> Tensor:
    return residual


@final
@dataclass(frozen=True)
class DeepConjugateDirection:
    """Conjugate directions proposed by a network that sees the normalised residual, for positive definite H.

    A proposal that is useless after orthogonalisation (not finite, dependent on the previous directions, or
    orthogonal to the residual) is replaced by the residual, so that every step lowers the energy norm of the error
    whatever the network says. It costs one product per step, plus what the network costs. A network that was not
    trained enough on systems like this one takes many more products than conjugate gradients. Without a network
    the proposal is the residual itself, as in conjugate gradients.

    Args:
        direction: (n,) of norm 1 -> (n,), for instance a trained ``nn.Module``; by default the identity.
        history: previous directions to be conjugate to, at least 1; two suffice.

    Source: "A Deep Conjugate Direction Method for Iteratively Solving Linear Systems" (arXiv 2205.10763).

    >>> matrix = torch.tensor([[2.0, 1.0], [1.0, 3.0]])
    >>> solver = DeepConjugateDirection(lambda r: torch.linalg.solve(matrix, r))  # a perfect network
    >>> solver.solve(lambda v: matrix @ v, torch.tensor([3.0, 4.0]), tolerance=1e-5).products
    2
    """

    direction: Callable[[Tensor], Tensor] = _itself
    history: int = 2
    max_products: int = MAX_PRODUCTS

    def __post_init__(self) -> None:
        if self.history < 1:
            raise SettingError("history", f"must be at least 1, got {self.history}")

    def solve(
        self, product: Product, b: Float[Tensor, "n"], *, tolerance: float, start: Float[Tensor, "n"] | None = None
    ) -> LinearSolution:
        """See ``LinearSolver.solve``."""
        system = LinearSystem(product, b, tolerance, self.max_products)
        return refine(system, start, lambda r, target: self._correct(system, r, target))

    def _correct(self, system: LinearSystem, r: Tensor, target: float) -> Tensor:
        x, size = torch.zeros_like(r), norm(r)
        best, smallest = x, math.inf
        previous: list[tuple[Tensor, Tensor]] = []
        while smallest > target and not system.exhausted:
            with torch.no_grad():
                proposal = self.direction(r / size).to(r)
            direction = _conjugate(proposal, previous)
            if not _useful(direction, proposal, r):
                direction = _conjugate(r / size, previous)
            direction = direction / norm(direction)
            product = system.product(direction)
            alpha = dot(direction, r) / system.curvature(direction, product)
            x = x + alpha * direction
            r = r - alpha * product
            size = norm(r)
            if size < smallest:
                best, smallest = x, size
            previous = [*previous, (direction, product)][-self.history :]
        return best


def _useful(direction: Tensor, proposal: Tensor, r: Tensor) -> bool:
    """Whether enough of the proposal is new, and points along the residual; false where it is not finite."""
    threshold = math.sqrt(torch.finfo(r.dtype).eps)
    length = norm(direction)
    return length > threshold * norm(proposal) and abs(dot(direction, r)) > threshold * length * norm(r)
