"""A linear map of tangents whose adjoint is known."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor


class _LinearMap(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        forward: Callable[..., Tensor],
        adjoint: Callable[[Tensor], tuple[Tensor, ...]],
        *tangents: Tensor,
    ) -> Tensor:
        ctx.adjoint = adjoint
        return forward(*tangents)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> Any:
        return (None, None, *ctx.adjoint(gradient))


def linear_map(
    forward: Callable[..., Tensor], adjoint: Callable[[Tensor], tuple[Tensor, ...]], *tangents: Tensor
) -> Tensor:
    """``forward(*tangents)``, with ``adjoint(gradient)``, one gradient per tangent, as its backward pass."""
    result: Tensor = _LinearMap.apply(forward, adjoint, *tangents)  # type: ignore[no-untyped-call]
    return result


def symmetric(tangent: Tensor, jacobian: Callable[[Tensor], Tensor]) -> Tensor:
    """The product of ``tangent`` with a symmetric Jacobian, which is also the way back of its gradient."""
    return linear_map(jacobian, lambda gradient: (jacobian(gradient),), tangent)
