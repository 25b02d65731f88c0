"""In-place operations on pairs: the out-of-place result takes the target's place."""

from __future__ import annotations

from typing import Any

import torch

from selftune.hypergradients.best_response.pair import Pair, name_of, pair, rule, unwrap


def _named_in_place(place: Any) -> list[str]:
    return [name for name in dir(place) if name.endswith("_") and not name.endswith("__")]


OUT_OF_PLACE: dict[Any, Any] = {
    torch.Tensor.__iadd__: torch.Tensor.add,
    torch.Tensor.__isub__: torch.Tensor.sub,
    torch.Tensor.__imul__: torch.Tensor.mul,
    torch.Tensor.__itruediv__: torch.Tensor.div,
    torch.Tensor.__ipow__: torch.Tensor.pow,
} | {
    getattr(place, name): getattr(place, name[:-1])
    for place in (torch.Tensor, torch, torch.nn.functional)
    for name in _named_in_place(place)
    if hasattr(place, name[:-1]) and name not in {"detach_", "copy_", "requires_grad_"}
}
"""In-place operation -> the operation that returns its result."""

IN_PLACE_ONLY = {getattr(torch.Tensor, name) for name in _named_in_place(torch.Tensor)} - set(OUT_OF_PLACE)


def writable(target: Any, func: Any) -> Pair:
    """``target``, if a tangent can be written to it.

    Raises:
        NotImplementedError: for a plain tensor.
    """
    if type(target) is not Pair:
        raise NotImplementedError(
            f"{name_of(func)} writes a linearised value into a plain tensor, where its tangent would be lost; "
            "build the tensor out of place (torch.stack, torch.cat)"
        )
    return target


def replace(target: Pair, result: Any) -> Pair:
    """``target`` after an in-place operation whose out-of-place result is ``result``."""
    value, tangent = (result.value, result.tangent) if type(result) is Pair else (result, None)
    if tangent is None:
        tangent = torch.zeros_like(target.tangent)
    if target.torn:
        raise NotImplementedError("an in-place operation on a view of a linearised value; write it out of place")
    if target.shared:
        target.value.copy_(value)
        target.tangent.copy_(tangent)
    else:
        target.value = value.expand_as(target.value)
        target.tangent = tangent.expand_as(target.value)
    return target


@rule(torch.Tensor.__setitem__)
def _setitem(x: Any, index: Any, source: Any) -> None:
    x = writable(x, torch.Tensor.__setitem__)
    index = unwrap(index)
    value, tangent = x.value.clone(), x.tangent.clone()
    if type(source) is Pair:
        value[index], tangent[index] = source.value, source.tangent
    else:
        value[index], tangent[index] = source, 0
    replace(x, pair(value, tangent))


@rule(torch.Tensor.zero_)
def _zero(x: Pair) -> Pair:
    return replace(x, torch.zeros_like(x.value))


@rule(torch.Tensor.fill_)
def _fill(x: Any, value: Any) -> Pair:
    _setitem(x, ..., value)
    return writable(x, torch.Tensor.fill_)


@rule(torch.Tensor.copy_)
def _copy(x: Any, source: Any, non_blocking: bool = False) -> Any:
    _setitem(writable(x, torch.Tensor.copy_), ..., source)
    return x
