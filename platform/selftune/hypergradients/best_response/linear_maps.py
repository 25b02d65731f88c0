"""Rules of operations that are linear in their pairs: the tangent takes the same way as the value."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from selftune.hypergradients.best_response.fallback import fall_back
from selftune.hypergradients.best_response.pair import RULES, Pair, pair, rule, unwrap


def _found(names: str) -> list[Any]:
    """The operation of each name wherever torch offers it: method, function, function of nn.functional."""
    places = (torch.Tensor, torch, F)
    return [getattr(place, name) for name in names.split() for place in places if hasattr(place, name)]


# One pair in, one pair out; other arguments are numbers, shapes, indices or tensors whose shape is read.
_VIEWS = _found(
    """view view_as reshape reshape_as flatten unflatten permute transpose t squeeze unsqueeze expand expand_as
    broadcast_to narrow select diagonal movedim moveaxis swapaxes swapdims ravel contiguous __getitem__
    to type_as type float double half bfloat16 cpu cuda"""
)
_COPIES = _found(
    """mean sum nansum trace cumsum neg __neg__ positive clone flip fliplr flipud roll rot90 repeat
    repeat_interleave tile index_select gather take_along_dim triu tril avg_pool1d avg_pool2d avg_pool3d
    adaptive_avg_pool1d adaptive_avg_pool2d adaptive_avg_pool3d interpolate pixel_shuffle
    pixel_unshuffle channel_shuffle unfold fold"""
)
_SEVERAL = _found("split split_with_sizes chunk tensor_split unbind hsplit vsplit dsplit")


def _map(operation: Any, view: bool) -> Callable[..., Any]:
    def linear(x: Any, *args: Any, **kwargs: Any) -> Any:
        if type(x) is not Pair:
            return fall_back(operation, (x, *args), kwargs)
        if not view:
            return pair(operation(x.value, *args, **kwargs), operation(x.tangent, *args, **kwargs))
        x.shared = True
        args = unwrap(args)
        result = pair(operation(x.value, *args, **kwargs), operation(x.tangent, *args, **kwargs), True)
        if x.value.stride() != x.tangent.stride():
            x.torn = result.torn = True
        return result

    return linear


def _map_several(operation: Any) -> Callable[..., Any]:
    def linear(x: Pair, *args: Any, **kwargs: Any) -> Any:
        x.shared = True
        values, tangents = operation(x.value, *args, **kwargs), operation(x.tangent, *args, **kwargs)
        return tuple(pair(value, tangent, True) for value, tangent in zip(values, tangents, strict=True))

    return linear


for _operation in _VIEWS:
    RULES[_operation] = _map(_operation, view=True)
for _name in ("T", "mT"):
    RULES[getattr(torch.Tensor, _name).__get__] = _map(getattr(torch.Tensor, _name).__get__, view=True)
for _operation in _COPIES:
    RULES[_operation] = _map(_operation, view=False)
for _operation in _SEVERAL:
    RULES[_operation] = _map_several(_operation)


@rule(torch.Tensor.__iter__)
def _iterate(x: Pair) -> Any:
    return iter(RULES[torch.Tensor.unbind](x))


@rule(F.pad)
def _pad(x: Pair, pad: Any, mode: str = "constant", value: float | None = None) -> Pair:
    return pair(F.pad(x.value, pad, mode, value), F.pad(x.tangent, pad, mode))


def _join(operation: Any) -> Callable[..., Any]:
    def join(tensors: Any, *args: Any, **kwargs: Any) -> Pair:
        values = [t.value if type(t) is Pair else t for t in tensors]
        tangents = [t.tangent if type(t) is Pair else torch.zeros_like(t) for t in tensors]
        return pair(operation(values, *args, **kwargs), operation(tangents, *args, **kwargs))

    return join


for _operation in _found("cat concat concatenate stack hstack vstack dstack"):
    RULES[_operation] = _join(_operation)


def _fit(tangent: Tensor, value: Tensor) -> Tensor:
    """The tangent of an operand in the shape and type of the result, where the other operand broadcast it."""
    if tangent.dtype != value.dtype:
        tangent = tangent.to(value.dtype)
    return tangent if tangent.shape == value.shape else tangent.expand(value.shape)


def _combine(value: Tensor, a: Tensor | None, b: Tensor | None, scale: Any) -> Pair:
    """``value`` with the tangent a + scale * b."""
    if a is not None and b is not None:
        return pair(value, _fit(torch.add(a, b, alpha=scale), value))
    if b is not None:
        return pair(value, _fit(b * scale, value))
    assert a is not None
    # A copy, because an in-place operation may write to either pair.
    return pair(value, _fit(a, value).clone())


def _parts(x: Any) -> tuple[Any, Tensor | None]:
    return (x.value, x.tangent) if type(x) is Pair else (x, None)


@rule(torch.Tensor.add, torch.add, torch.Tensor.__add__, torch.Tensor.__radd__)
def _add(x: Any, y: Any, *, alpha: Any = 1) -> Pair:
    (x, a), (y, b) = _parts(x), _parts(y)
    return _combine(torch.add(x, y, alpha=alpha), a, b, alpha)


@rule(torch.Tensor.sub, torch.sub, torch.subtract, torch.Tensor.subtract, torch.Tensor.__sub__)
def _sub(x: Any, y: Any, *, alpha: Any = 1) -> Pair:
    (x, a), (y, b) = _parts(x), _parts(y)
    return _combine(torch.sub(x, y, alpha=alpha), a, b, -alpha)


@rule(torch.Tensor.__rsub__, torch.rsub)
def _rsub(x: Any, y: Any, *, alpha: Any = 1) -> Pair:
    (x, a), (y, b) = _parts(x), _parts(y)
    value = torch.rsub(x, y, alpha=alpha)
    return _combine(value, b, a, -alpha)


def _product(operation: Any) -> Callable[..., Any]:
    """Bilinear operations: d(x y) = dx y + x dy."""

    def product(x: Any, y: Any) -> Pair:
        (x, a), (y, b) = _parts(x), _parts(y)
        value = operation(x, y)
        if a is not None and b is not None:
            tangent = operation(a, y) + operation(x, b)
        else:
            tangent = operation(x, b) if a is None else operation(a, y)
        return pair(value, tangent)

    return product


for _operation in _found("mul multiply __mul__ __rmul__ matmul __matmul__ mm bmm mv dot outer"):
    RULES[_operation] = _product(_operation)


@rule(torch.Tensor.__rmatmul__)
def _rmatmul(x: Any, y: Any) -> Any:
    return RULES[torch.matmul](y, x)


@rule(torch.Tensor.div, torch.div, torch.true_divide, torch.Tensor.__truediv__)
def _div(x: Any, y: Any, *, rounding_mode: str | None = None) -> Any:
    if rounding_mode is not None:
        return torch.div(unwrap(x), unwrap(y), rounding_mode=rounding_mode)  # piecewise constant
    (x, a), (y, b) = _parts(x), _parts(y)
    value = torch.div(x, y)
    if b is None:
        assert a is not None
        return pair(value, torch.div(a, y))
    falling = value * b
    return pair(value, torch.div(falling.neg() if a is None else a - falling, y))


@rule(torch.Tensor.__rtruediv__, torch.Tensor.__rdiv__)
def _rdiv(x: Any, y: Any) -> Any:
    return _div(y, x)


def _layer(operation: Any) -> Callable[..., Any]:
    """Linear and convolution layers with plain weights: affine in the input."""

    def layer(x: Any, weight: Any, bias: Any = None, *args: Any, **kwargs: Any) -> Any:
        if type(x) is not Pair or type(weight) is Pair or type(bias) is Pair:
            return fall_back(operation, (x, weight, bias, *args), kwargs)
        value = operation(x.value, weight, bias, *args, **kwargs)
        return pair(value, operation(x.tangent, weight, None, *args, **kwargs))

    return layer


for _operation in (
    F.linear,
    torch.conv1d, torch.conv2d, torch.conv3d,
    torch.conv_transpose1d, torch.conv_transpose2d, torch.conv_transpose3d,
):  # fmt: skip
    RULES[_operation] = _layer(_operation)


def _select(condition: Tensor, x: Any, y: Any) -> Pair:
    (x, a), (y, b) = _parts(x), _parts(y)
    value = torch.where(condition, x, y)
    return pair(value, torch.where(condition, 0.0 if a is None else a, 0.0 if b is None else b).to(value.dtype))


@rule(torch.where)
def _where(condition: Tensor, *branches: Any, **named: Any) -> Any:
    if len(branches) == 2 and not named:
        return _select(condition, *branches)
    return _select(condition, *branches, *(named[key] for key in ("self", "input", "other") if key in named))


@rule(torch.Tensor.where)
def _where_method(x: Any, condition: Tensor, y: Any) -> Pair:
    return _select(condition, x, y)


@rule(torch.Tensor.masked_fill, torch.masked_fill)
def _masked_fill(x: Any, mask: Any, value: Any) -> Any:
    if type(x) is not Pair or type(value) is Pair:
        return fall_back(torch.masked_fill, (x, mask, value), {})
    return pair(x.value.masked_fill(mask, value), x.tangent.masked_fill(mask, 0))


def _masked(operation: Any) -> Callable[..., Any]:
    """Dropout: one mask, drawn as the plain network would draw it, for value and tangent."""

    def drop(x: Pair, p: float = 0.5, training: bool = True, inplace: bool = False) -> Pair:
        if not training or p == 0:
            return x
        mask = operation(torch.ones_like(x.value), p, training)
        return pair(x.value * mask, x.tangent * mask)

    return drop


for _operation in (F.dropout, F.dropout1d, F.dropout2d, F.dropout3d, torch.dropout, torch.feature_dropout):
    RULES[_operation] = _masked(_operation)
