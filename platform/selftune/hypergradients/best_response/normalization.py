"""Normalizations of dual numbers by the fused kernels of their backward passes: their Jacobians are symmetric."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F

from selftune.hypergradients.best_response.dual import dual, parts
from selftune.hypergradients.best_response.linear_map import symmetric
from selftune.shapes import Float, Tensor

_aten = torch.ops.aten
_ONLY_INPUT = [True, False, False]


def layer_normalized(
    input: Float[Tensor, "..."],
    shape: Sequence[int],
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
) -> Float[Tensor, "..."]:
    """``F.layer_norm`` of a dual number with constant weight and bias."""
    primal, tangent = parts(input)
    value, mean, inverse = torch.native_layer_norm(primal, shape, weight, bias, eps)
    if tangent is None:
        return value
    wide = primal.to(mean.dtype)  # which is wider than the input's where narrow inputs meet wide weights

    def jacobian(direction: Tensor) -> Tensor:
        moved: Tensor = _aten.native_layer_norm_backward(
            direction.contiguous(), wide, shape, mean, inverse, None, None, _ONLY_INPUT
        )[0]
        return moved

    moved = symmetric(tangent.to(mean.dtype), jacobian)
    return dual(value, moved if weight is None else moved * weight)


def rms_normalized(input: Float[Tensor, "..."], shape: Sequence[int], eps: float | None) -> Float[Tensor, "..."]:
    """``F.rms_norm`` of a dual number, without weight."""
    primal, tangent = parts(input)
    axes = tuple(range(-len(shape), 0))
    eps = torch.finfo(primal.dtype).eps if eps is None else eps
    inverse = torch.rsqrt(primal.square().mean(axes, keepdim=True) + eps)
    value: Tensor = primal * inverse
    if tangent is None:
        return value

    def jacobian(direction: Tensor) -> Tensor:
        return inverse * (direction - value * (value * direction).mean(axes, keepdim=True))

    return dual(value, symmetric(tangent, jacobian))


def batch_normalized(
    input: Float[Tensor, "batch channels ..."],
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None,
    bias: Tensor | None,
    training: bool,
    eps: float,
) -> tuple[Float[Tensor, "batch channels ..."], Float[Tensor, "channels"], Float[Tensor, "channels"]]:
    """``F.batch_norm`` of a dual number with constant weight and bias; running statistics stay as they are.

    Returns:
        The normalised input, and the values of the mean and the inverse standard deviation.
    """
    primal, tangent = parts(input)
    if not training:
        assert running_mean is not None
        assert running_var is not None
        value = F.batch_norm(primal, running_mean, running_var, weight, bias, False, 0.0, eps)
        if tangent is not None:
            centred = torch.zeros_like(running_mean)
            value = dual(value, F.batch_norm(tangent, centred, running_var, weight, None, False, 0.0, eps))
        return value, running_mean, torch.rsqrt(running_var + eps)
    value, mean, inverse = torch.native_batch_norm(primal, weight, bias, None, None, True, 0.0, eps)
    if tangent is None:
        return value, mean, inverse

    def jacobian(direction: Tensor) -> Tensor:
        statistics: Any = (None, None, mean, inverse, True, eps, _ONLY_INPUT)
        moved: Tensor = _aten.native_batch_norm_backward(direction, primal, weight, *statistics)[0]
        return moved

    return dual(value, symmetric(tangent, jacobian)), mean, inverse


def group_normalized(
    input: Float[Tensor, "batch channels ..."],
    groups: int,
    weight: Tensor | None,
    bias: Tensor | None,
    eps: float,
) -> tuple[Float[Tensor, "batch channels ..."], Float[Tensor, "batch groups"], Float[Tensor, "batch groups"]]:
    """``F.group_norm`` of a dual number with constant weight and bias.

    Returns:
        The normalised input, and the values of the mean and the inverse standard deviation.
    """
    primal, tangent = parts(input)
    primal = primal.contiguous()
    batch, channels = primal.shape[:2]
    sizes = batch, channels, primal[0, 0].numel(), groups
    value, mean, inverse = torch.native_group_norm(primal, weight, bias, *sizes, eps)
    if tangent is None:
        return value, mean, inverse

    def jacobian(direction: Tensor) -> Tensor:
        moved: Tensor = _aten.native_group_norm_backward(
            direction.contiguous(), primal, mean, inverse, None, *sizes, _ONLY_INPUT
        )[0]
        return moved

    moved = symmetric(tangent, jacobian)
    if weight is not None:
        moved = moved * weight.view(-1, *(1,) * (primal.ndim - 2))
    return dual(value, moved), mean, inverse
