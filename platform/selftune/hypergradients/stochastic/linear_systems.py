"""Approximate solutions of H q = b after a fixed number of products, with no word from the device in between.

Unlike the linear solvers, which stop at a measured residual, these never wait for the device: made for training
steps, where a number read back would stall it. Results are flat and carry no graph.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from selftune.errors import SettingError
from selftune.hypergradients.linear_solvers.linear_solver import Product
from selftune.shapes import Float, Tensor


def neumann(products: Sequence[Product], b: Float[Tensor, "n"], rate: float) -> Float[Tensor, "n"]:
    """The first K + 1 terms of rate * sum_k (I - rate H)^k b, K = len(products), each factor with its own product.

    With one H throughout: (I - (I - rate H)^(K+1)) H^-1 b, too short by a relative (1 - rate mu)^(K+1) in the
    direction of the smallest eigenvalue mu. It takes no start.

    Args:
        products: v -> Hv, each perhaps of its own batch.
        rate: positive, at most 1/L with L the largest eigenvalue of H.

    Raises:
        SettingError: if the rate is not positive.

    Source: "Bilevel Optimization: Convergence Analysis and Enhanced Design" (arXiv 2010.07962), stocBiO's
    hypergradient estimator.

    >>> neumann([lambda v: v, lambda v: v], torch.ones(1), rate=0.5)  # 1/2 + 1/4 + 1/8
    tensor([0.8750])
    """
    _check_rate(rate)
    term = total = b.detach()
    for product in products:
        term = term - rate * product(term).detach()
        total = total + term
    return rate * total


def descent(
    products: Sequence[Product], b: Float[Tensor, "n"], start: Float[Tensor, "n"], rate: float
) -> Float[Tensor, "n"]:
    """q after one step q -= rate (Hq - b) per product, from ``start``: gradient descent on q'Hq/2 - b'q.

    Started from the last solution it follows a slowly moving system at one product per step.

    Args:
        products: v -> Hv, each perhaps of its own batch.
        rate: positive, below 2/L with L the largest eigenvalue of H.

    Raises:
        SettingError: if the rate is not positive.

    Source: "Amortized Implicit Differentiation for Stochastic Bilevel Optimization" (arXiv 2111.14580),
    AmIGO with stochastic gradient descent on the linear system.

    >>> descent([lambda v: v] * 2, torch.ones(1), start=torch.zeros(1), rate=0.5)
    tensor([0.7500])
    """
    _check_rate(rate)
    b, q = b.detach(), start.detach()
    for product in products:
        q = q - rate * (product(q).detach() - b)
    return q


def conjugate_gradient(
    product: Product,
    b: Float[Tensor, "n"],
    steps: int,
    damping: float = 0.0,
    start: Float[Tensor, "n"] | None = None,
) -> tuple[Float[Tensor, "n"], Float[Tensor, ""]]:
    """``steps`` steps of conjugate gradients on (H + damping I) q = b, and the residual norm by their recurrence.

    From the first direction p with p'(H + damping I)p <= 0 on, the iterate stays where it is: every step taken
    was one of descent on q'Hq/2 - b'q, so a Hessian that is indefinite only away from b does no harm. A start
    costs one product more. Values that are not finite stay visible in the result.

    Args:
        product: v -> Hv, the same linear symmetric map on every call.
        steps: at least 1; n of them solve the system up to rounding.
        damping: not negative.

    Raises:
        SettingError: if there are no steps or the damping is negative.

    Source: Hestenes and Stiefel, "Methods of Conjugate Gradients for Solving Linear Systems", 1952; stop at
    negative curvature: Steihaug, "The Conjugate Gradient Method and Trust Regions in Large Scale Optimization",
    1983, without the trust region.

    >>> matrix = torch.tensor([[2.0, 1.0], [1.0, 3.0]])
    >>> conjugate_gradient(lambda v: matrix @ v, torch.tensor([3.0, 4.0]), steps=2)[0]
    tensor([1.0000, 1.0000])
    >>> conjugate_gradient(lambda v: -v, torch.ones(4), steps=2)
    (tensor([0., 0., 0., 0.]), tensor(2.))
    """
    if steps < 1:
        raise SettingError("steps", f"must be at least 1, got {steps}")
    if not damping >= 0:
        raise SettingError("damping", f"must not be negative, got {damping}")

    def damped(v: Tensor) -> Tensor:
        return product(v).detach() + damping * v

    b = b.detach()
    scale = _power_of_two(torch.linalg.vector_norm(b))  # exact, so that squares of small numbers do not vanish
    b = b / scale
    q = torch.zeros_like(b) if start is None else start.detach() / scale
    r = b if start is None else b - damped(q)
    p, square = r, torch.dot(r, r)
    stopped, least = torch.zeros_like(square, dtype=torch.bool), torch.finfo(square.dtype).tiny
    for _ in range(steps):
        along = damped(p)
        curvature = torch.dot(p, along)
        # not ~(curvature > 0): that would hide what is not a number; below the least normal number squares vanish
        # before the residual does, and their quotients with it
        stopped = stopped | (curvature <= 0) | (square < least)
        length = torch.where(stopped, 0.0, square / curvature)
        q = q + length * p
        r = r - length * along
        new_square = torch.dot(r, r)
        p = torch.where(stopped, p, r + (new_square / square) * p)
        square = new_square
    return scale * q, scale * torch.linalg.vector_norm(r)


def _power_of_two(size: Float[Tensor, ""]) -> Float[Tensor, ""]:
    """The least power of two above ``size``; 1 for zero."""
    mantissa = torch.frexp(size).mantissa
    return torch.where(mantissa == 0, 1.0, size / mantissa)


def _check_rate(rate: float) -> None:
    if not rate > 0:
        raise SettingError("rate", f"must be positive, got {rate}")
