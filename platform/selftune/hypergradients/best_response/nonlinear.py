"""Rules of activations, pooling and normalization.

The Jacobian of an element-wise function, of softmax and of a normalization is symmetric, so that torch's fused
backward kernels compute Jacobian-vector products as well.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from selftune.hypergradients.best_response.fallback import fall_back
from selftune.hypergradients.best_response.linear_map import linear_map
from selftune.hypergradients.best_response.pair import RULES, Pair, pair, rule

_aten = torch.ops.aten
_threshold_backward = _aten.threshold_backward.default


def _symmetric(tangent: Tensor, jacobian: Callable[[Tensor], Tensor]) -> Tensor:
    """The product of ``tangent`` with a symmetric Jacobian, which is also the way back of its gradient."""
    return linear_map(jacobian, lambda gradient: (jacobian(gradient),), tangent)


@rule(F.relu, torch.relu, torch.Tensor.relu)
def _relu(x: Pair, inplace: bool = False) -> Pair:
    value = torch.relu(x.value)
    return pair(value, _threshold_backward(x.tangent, value, 0))


@rule(F.leaky_relu)
def _leaky_relu(x: Pair, negative_slope: float = 0.01, inplace: bool = False) -> Pair:
    tangent = _aten.leaky_relu_backward(x.tangent, x.value, negative_slope, False)
    return pair(F.leaky_relu(x.value, negative_slope), tangent)


@rule(F.gelu)
def _gelu(x: Pair, approximate: str = "none") -> Pair:
    tangent = _aten.gelu_backward(x.tangent, x.value, approximate=approximate)
    return pair(F.gelu(x.value, approximate=approximate), tangent)


@rule(F.tanh, torch.tanh, torch.Tensor.tanh)
def _tanh(x: Pair) -> Pair:
    value = torch.tanh(x.value)
    return pair(value, _aten.tanh_backward(x.tangent, value))


@rule(F.sigmoid, torch.sigmoid, torch.Tensor.sigmoid)
def _sigmoid(x: Pair) -> Pair:
    value = torch.sigmoid(x.value)
    return pair(value, _aten.sigmoid_backward(x.tangent, value))


@rule(F.silu)
def _silu(x: Pair, inplace: bool = False) -> Pair:
    primal = x.value
    return pair(F.silu(primal), _symmetric(x.tangent, lambda direction: _aten.silu_backward(direction, primal)))


@rule(F.elu)
def _elu(x: Pair, alpha: float = 1.0, inplace: bool = False) -> Pair:
    return pair(F.elu(x.value, alpha), _aten.elu_backward(x.tangent, alpha, 1, 1, False, x.value))


@rule(F.softplus)
def _softplus(x: Pair, beta: float = 1, threshold: float = 20) -> Pair:
    return pair(F.softplus(x.value, beta, threshold), _aten.softplus_backward(x.tangent, x.value, beta, threshold))


@rule(F.softmax, torch.softmax, torch.Tensor.softmax)
def _softmax(x: Pair, dim: int | None = None, *args: Any, **kwargs: Any) -> Any:
    if dim is None or args[1:] or kwargs.get("dtype") is not None:
        return fall_back(F.softmax, (x, dim, *args), kwargs)
    value = torch.softmax(x.value, dim)
    return pair(value, _aten._softmax_backward_data(x.tangent, value, dim, value.dtype))


@rule(F.log_softmax, torch.log_softmax, torch.Tensor.log_softmax)
def _log_softmax(x: Pair, dim: int | None = None, *args: Any, **kwargs: Any) -> Any:
    if dim is None or args[1:] or kwargs.get("dtype") is not None:
        return fall_back(F.log_softmax, (x, dim, *args), kwargs)
    value = torch.log_softmax(x.value, dim)
    return pair(value, x.tangent - (value.exp() * x.tangent).sum(dim, keepdim=True))


def _pooled(x: Pair, value: Tensor, indices: Tensor, axes: int) -> Pair:
    tangent = x.tangent.flatten(-axes).gather(-1, indices.flatten(-axes)).view_as(indices)
    return pair(value, tangent)


def _max_pool(operation: Any, axes: int) -> Callable[..., Any]:
    def max_pool(
        x: Pair,
        kernel_size: Any,
        stride: Any = None,
        padding: Any = 0,
        dilation: Any = 1,
        ceil_mode: bool = False,
        return_indices: bool = False,
    ) -> Any:
        value, indices = operation(x.value, kernel_size, stride, padding, dilation, ceil_mode)
        pooled = _pooled(x, value, indices, axes)
        return (pooled, indices) if return_indices else pooled

    return max_pool


def _max_pool_with_indices(operation: Any, axes: int) -> Callable[..., Any]:
    pool = _max_pool(operation, axes)

    def max_pool_with_indices(x: Pair, *args: Any, **kwargs: Any) -> Any:
        return pool(x, *args[:5], **{**kwargs, "return_indices": True})

    return max_pool_with_indices


RULES[F.max_pool1d] = RULES[torch.max_pool1d] = _max_pool(F.max_pool1d_with_indices, 1)
RULES[F.max_pool2d] = RULES[torch.max_pool2d] = _max_pool(F.max_pool2d_with_indices, 2)
RULES[F.max_pool1d_with_indices] = _max_pool_with_indices(F.max_pool1d_with_indices, 1)
RULES[F.max_pool2d_with_indices] = _max_pool_with_indices(F.max_pool2d_with_indices, 2)


@rule(F.batch_norm)
def _batch_norm(
    x: Any,
    running_mean: Any,
    running_var: Any,
    weight: Any = None,
    bias: Any = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Any:
    """Statistics of the batch in training, never written to the running ones."""
    if type(x) is not Pair or type(weight) is Pair or type(bias) is Pair:
        kept = (None, None) if training else (running_mean, running_var)
        return fall_back(F.batch_norm, (x, *kept, weight, bias, training, momentum, eps), {})
    if not training:
        value = F.batch_norm(x.value, running_mean, running_var, weight, bias, False, momentum, eps)
        centred = torch.zeros_like(running_mean)
        return pair(value, F.batch_norm(x.tangent, centred, running_var, weight, None, False, momentum, eps))
    value, mean, inverse = torch.native_batch_norm(x.value, weight, bias, None, None, True, momentum, eps)
    primal = x.value

    def jacobian(direction: Tensor) -> Tensor:
        statistics = (None, None, mean, inverse, True, eps, [True, False, False])
        moved: Tensor = _aten.native_batch_norm_backward(direction, primal, weight, *statistics)[0]
        return moved

    return pair(value, _symmetric(x.tangent, jacobian))


@rule(F.layer_norm)
def _layer_norm(x: Any, normalized_shape: Any, weight: Any = None, bias: Any = None, eps: float = 1e-5) -> Any:
    if type(x) is not Pair or type(weight) is Pair or type(bias) is Pair:
        return fall_back(F.layer_norm, (x, normalized_shape, weight, bias, eps), {})
    value, mean, inverse = torch.native_layer_norm(x.value, normalized_shape, weight, bias, eps)
    primal = x.value.to(mean.dtype)  # which is wider than the input's where narrow inputs meet wide weights

    def jacobian(direction: Tensor) -> Tensor:
        moved: Tensor = _aten.native_layer_norm_backward(
            direction.contiguous(), primal, normalized_shape, mean, inverse, None, None, [True, False, False]
        )[0]
        return moved

    tangent = _symmetric(x.tangent.to(mean.dtype), jacobian)
    return pair(value, (tangent if weight is None else tangent * weight).to(value.dtype))
