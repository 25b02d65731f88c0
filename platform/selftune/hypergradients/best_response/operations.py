"""Operations on dual numbers that torch's forward mode does not do, or not as fast as it could.

The Jacobian of an element-wise function, of softmax and of a normalization is symmetric, so that torch's fused
backward kernels compute Jacobian-vector products as well.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

from selftune.data.nested import tensors_in
from selftune.hypergradients.best_response.attention import scaled_dot_product_attention
from selftune.hypergradients.best_response.dual import dual, parts
from selftune.hypergradients.best_response.linear_map import symmetric
from selftune.hypergradients.best_response.normalization import (
    batch_normalized,
    group_normalized,
    layer_normalized,
    rms_normalized,
)
from selftune.shapes import Tensor

_aten = torch.ops.aten
OPERATIONS: dict[Any, Callable[..., Any]] = {}
"""Operation (as ``__torch_function__`` names it) -> what computes it in a linearised pass."""


def linearizes(*operations: Any) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """The decorated function computes ``operations``, with their own arguments, in linearised passes.

    It is called whether an argument has a tangent or not, and uses ``dual.parts`` to see.
    """

    def register(function: Callable[..., Any]) -> Callable[..., Any]:
        for operation in operations:
            OPERATIONS[operation] = function
        return function

    return register


def name_of(func: Any) -> str:
    """The name a user knows an operation by: ``cumprod``, not ``<method 'cumprod' of ...>``."""
    return str(getattr(func, "__name__", None) or func)


def _product(operation: Any) -> Callable[..., Any]:
    """Products with a constant, to which torch's forward mode gives a tangent of zeros."""

    def product(*args: Any, **kwargs: Any) -> Any:
        (value, tangent), (other, moved) = parts(args[0] if args else None), parts(args[-1] if args else None)
        if kwargs or len(args) != 2 or (tangent is None) == (moved is None):
            return operation(*args, **kwargs)
        result = operation(value, other)
        return dual(result, operation(tangent, other) if moved is None else operation(value, moved))

    return product


for _name in ("mul", "multiply", "__mul__", "__rmul__"):
    for _place in (torch.Tensor, torch):
        if hasattr(_place, _name):
            OPERATIONS[getattr(_place, _name)] = _product(getattr(_place, _name))


@linearizes(torch.div, torch.true_divide, torch.Tensor.div, torch.Tensor.true_divide, torch.Tensor.__truediv__)
def _quotient(*args: Any, **kwargs: Any) -> Any:
    value, tangent = parts(args[0] if args else None)
    if kwargs or len(args) != 2 or tangent is None or parts(args[1])[1] is not None:
        return torch.div(*args, **kwargs)
    return dual(torch.div(value, args[1]), torch.div(tangent, args[1]))


@linearizes(torch.masked_fill, torch.Tensor.masked_fill)
def _masked_fill(input: Tensor, mask: Tensor, value: Any) -> Tensor:
    primal, tangent = parts(input)
    if tangent is None or parts(value)[1] is not None:
        return torch.masked_fill(input, mask, value)
    return dual(primal.masked_fill(mask, value), tangent.masked_fill(mask, 0))


@linearizes(F.silu)
def _silu(input: Tensor, inplace: bool = False) -> Tensor:
    value, tangent = parts(input)
    if tangent is None or inplace:
        return F.silu(input, inplace)
    return dual(F.silu(value), symmetric(tangent, lambda direction: _aten.silu_backward(direction, value)))


@linearizes(F.mish)
def _mish(input: Tensor, inplace: bool = False) -> Tensor:
    value, tangent = parts(input)
    if tangent is None or inplace:
        return F.mish(input, inplace)
    return dual(F.mish(value), symmetric(tangent, lambda direction: _aten.mish_backward(direction, value)))


@linearizes(F.glu)
def _glu(input: Tensor, dim: int = -1) -> Tensor:
    """Its derivative cannot be differentiated in torch."""
    kept, gate = input.chunk(2, dim)
    return kept * torch.sigmoid(gate)


@linearizes(F.softmax, torch.softmax, torch.Tensor.softmax)
def _softmax(input: Tensor, dim: int | None = None, *args: Any, **kwargs: Any) -> Tensor:
    value, tangent = parts(input)
    if tangent is None or dim is None or args[1:] or kwargs.get("dtype") is not None:
        return F.softmax(input, dim, *args, **kwargs)
    value = torch.softmax(value, dim)
    # autocast may have widened the value
    return dual(value, _aten._softmax_backward_data(tangent.to(value.dtype), value, dim, value.dtype))


@linearizes(F.layer_norm)
def _layer_norm(
    input: Any, normalized_shape: Any, weight: Any = None, bias: Any = None, eps: float = 1e-5
) -> Tensor:
    if parts(input)[1] is None or parts(weight)[1] is not None or parts(bias)[1] is not None:
        return F.layer_norm(input, normalized_shape, weight, bias, eps)
    return layer_normalized(input, normalized_shape, weight, bias, eps)


@linearizes(F.batch_norm)
def _batch_norm(
    input: Any,
    running_mean: Any,
    running_var: Any,
    weight: Any = None,
    bias: Any = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    """Statistics of the batch in training, never written to the running ones."""
    if parts(input)[1] is None or parts(weight)[1] is not None or parts(bias)[1] is not None:
        kept = (None, None) if training else (running_mean, running_var)
        return F.batch_norm(input, kept[0], kept[1], weight, bias, training, momentum, eps)
    return batch_normalized(input, running_mean, running_var, weight, bias, training, eps)[0]


@linearizes(F.group_norm)
def _group_norm(input: Any, num_groups: int, weight: Any = None, bias: Any = None, eps: float = 1e-5) -> Tensor:
    if parts(input)[1] is None or parts(weight)[1] is not None or parts(bias)[1] is not None:
        return F.group_norm(input, num_groups, weight, bias, eps)
    return group_normalized(input, num_groups, weight, bias, eps)[0]


@linearizes(F.instance_norm)
def _instance_norm(
    input: Any,
    running_mean: Any = None,
    running_var: Any = None,
    weight: Any = None,
    bias: Any = None,
    use_input_stats: bool = True,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    """Statistics of the input, never written to the running ones."""
    if not use_input_stats:
        fixed: Tensor = _batch_norm(input, running_mean, running_var, weight, bias, False, momentum, eps)
        return fixed
    if parts(input)[1] is None or parts(weight)[1] is not None or parts(bias)[1] is not None:
        return F.instance_norm(input, None, None, weight, bias, True, momentum, eps)
    return group_normalized(input, input.shape[1], weight, bias, eps)[0]


@linearizes(F.rms_norm)
def _rms_norm(input: Any, normalized_shape: Any, weight: Any = None, eps: float | None = None) -> Tensor:
    if parts(input)[1] is None or parts(weight)[1] is not None:
        return F.rms_norm(input, normalized_shape, weight, eps)
    normalized = rms_normalized(input, normalized_shape, eps)
    scaled: Tensor = normalized if weight is None else normalized * weight
    return scaled


@linearizes(F.scaled_dot_product_attention)
def _attention(query: Any, key: Any, value: Any, attn_mask: Any = None, *args: Any, **kwargs: Any) -> Tensor:
    if parts(attn_mask)[1] is None:
        return scaled_dot_product_attention(query, key, value, attn_mask, *args, **kwargs)
    with sdpa_kernel(SDPBackend.MATH):  # the one kernel that has a forward derivative
        return F.scaled_dot_product_attention(query, key, value, attn_mask, *args, **kwargs)


@linearizes(F.multi_head_attention_forward)
def _multi_head_attention(*args: Any, **kwargs: Any) -> Any:
    with sdpa_kernel(SDPBackend.MATH):
        return F.multi_head_attention_forward(*args, **kwargs)


def _refused(operation: Any, what: str, instead: str) -> Callable[..., Any]:
    def refused(*args: Any, **kwargs: Any) -> Any:
        if any(parts(tensor)[1] is not None for tensor in tensors_in((args, list(kwargs.values())))):
            raise NotImplementedError(f"{what} of a linearised value would lose its tangent; {instead}")
        return operation(*args, **kwargs)

    return refused


_READS: tuple[Any, ...] = (torch.Tensor.numpy, torch.Tensor.__array__)
_DIFFERENTIATIONS: tuple[Any, ...] = (torch.autograd.grad, torch.Tensor.backward, torch.Tensor.requires_grad_)
for _operation in _READS:
    OPERATIONS[_operation] = _refused(
        _operation, "numpy()", "call detach() first where the network means to read a constant"
    )
for _operation in _DIFFERENTIATIONS:
    OPERATIONS[_operation] = _refused(
        _operation,
        f"{_operation.__name__}()",
        "networks that differentiate inside their forward pass need perturbed()",
    )
