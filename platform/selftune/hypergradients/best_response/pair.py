"""Pairs: a constant value and its tangent, travelling through an unmodified network together."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

Rule = Callable[..., Any]

RULES: dict[Any, Rule] = {}
"""Operation (as ``__torch_function__`` names it) -> rule, called with the operation's own arguments."""


@dataclass
class Linearization:
    """One pass of pairs through a network."""

    grad_enabled: bool
    fallbacks: dict[str, str] = field(default_factory=dict)


CURRENT: ContextVar[Linearization] = ContextVar("CURRENT")


class Pair(torch.Tensor):
    """A tensor that carries a tangent; to the network it looks like its value.

    Every operation on a pair goes to its rule in ``RULES``, or falls back to forward-mode differentiation or
    double backward of that one operation. The value is a constant, the tangent keeps its autograd graph.

    What reads a value without differentiating it reads a plain one: shapes, comparisons, ``argmax``, ``item()``,
    everything under ``torch.no_grad()``; ``detach()`` and ``data`` drop the tangent as they drop a gradient.
    Where a tangent would get lost unasked (a custom ``torch.autograd.Function``, a write into a plain tensor,
    ``numpy()``), an error is raised.
    """

    value: Tensor
    tangent: Tensor
    shared: bool  # another pair may be a view of this one, so in-place operations must write through
    torn: bool = False  # value and tangent differ in layout, so one may be a view where the other is a copy

    __hash__ = object.__hash__  # type: ignore[assignment]

    @classmethod
    def __torch_function__(
        cls, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        rule = RULES.get(func)
        if rule is None or not torch.is_grad_enabled() or (kwargs and kwargs.get("inplace")):
            return _dispatch(func, rule, args, dict(kwargs or {}))
        return rule(*args, **kwargs) if kwargs else rule(*args)


_make_subclass = torch.Tensor._make_subclass


def pair(value: Tensor, tangent: Tensor, shared: bool = False) -> Pair:
    """``value`` with ``tangent`` (same shape)."""
    self: Any = _make_subclass(Pair, value)
    self.value = value
    self.tangent = tangent
    self.shared = shared
    result: Pair = self
    return result


def unwrap(tree: Any, take: Callable[[Pair], Any] = lambda p: p.value) -> Any:
    """``tree`` (nested tuples, lists, dicts) with ``take(p)`` in place of every pair p."""
    if type(tree) is Pair:
        return take(tree)
    if isinstance(tree, tuple):
        items = [unwrap(item, take) for item in tree]
        return type(tree)(*items) if hasattr(tree, "_fields") else tuple(items)
    if isinstance(tree, list):
        return [unwrap(item, take) for item in tree]
    if isinstance(tree, dict):
        return {key: unwrap(item, take) for key, item in tree.items()}
    return tree


def rule(*operations: Any) -> Callable[[Rule], Rule]:
    """Registers the decorated function as the rule of ``operations``."""

    def register(function: Rule) -> Rule:
        for operation in operations:
            RULES[operation] = function
        return function

    return register


def name_of(func: Any) -> str:
    """The name a user knows an operation by: ``cumprod``, not ``<method 'cumprod' of ...>``."""
    name = getattr(func, "__name__", None) or str(func)
    return str(getattr(func.__self__, "__name__", name)) if name == "__get__" else str(name)


_OUT_OF_PLACE: dict[Any, Any] = {
    torch.Tensor.__iadd__: torch.Tensor.add,
    torch.Tensor.__isub__: torch.Tensor.sub,
    torch.Tensor.__imul__: torch.Tensor.mul,
    torch.Tensor.__itruediv__: torch.Tensor.div,
    torch.Tensor.__ipow__: torch.Tensor.pow,
}
for _module in (torch.Tensor, torch, torch.nn.functional):
    for _name in dir(_module):
        if _name.endswith("_") and not _name.endswith("__") and hasattr(_module, _name[:-1]):
            _OUT_OF_PLACE[getattr(_module, _name)] = getattr(_module, _name[:-1])
_OUT_OF_PLACE.pop(torch.Tensor.detach_)
_OUT_OF_PLACE.pop(torch.Tensor.copy_, None)
_IN_PLACE_ONLY = {
    getattr(torch.Tensor, _name) for _name in dir(torch.Tensor) if _name.endswith("_") and not _name.endswith("__")
} - set(_OUT_OF_PLACE)


def _dispatch(func: Any, rule: Rule | None, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Operations off the fast path: in-place ones, ones under no_grad, ones without a rule."""
    from selftune.hypergradients.best_response.fallback import fall_back

    current = CURRENT.get(None)
    if not torch.is_grad_enabled() and (current is None or current.grad_enabled) and func not in READS:
        return _without_gradients(func, args, kwargs)
    if func in _OUT_OF_PLACE:
        return replace(_writable(args[0], func), _OUT_OF_PLACE[func](*args, **kwargs))
    if func in _IN_PLACE_ONLY and rule is None:
        raise NotImplementedError(
            f"{name_of(func)} on a linearised value has no rule; write it out of place, or use perturbed()"
        )
    if kwargs.get("inplace"):
        return replace(args[0], func(*args, **{**kwargs, "inplace": False}))
    if rule is not None:
        return rule(*args, **kwargs)
    if kwargs.get("out") is not None:
        _writable(kwargs["out"], func)
        raise NotImplementedError(f"{name_of(func)} with out= on a linearised value has no rule; leave out= away")
    return fall_back(func, args, kwargs)


READS: set[Any] = set()
"""Operations that read a value without differentiating it; they have rules too, which return plain values."""


def _without_gradients(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Under no_grad a network computes constants; but a custom Function computes its forward pass there."""
    frame = sys._getframe()
    apply = torch.autograd.Function.apply.__func__.__code__  # type: ignore[attr-defined]
    while frame.f_back is not None:
        frame = frame.f_back
        if frame.f_code is apply:
            raise NotImplementedError(
                "a custom torch.autograd.Function cannot be linearised, its tangent would be lost; "
                "use perturbed() for this network"
            )
    if args and type(args[0]) is Pair and (func in _OUT_OF_PLACE or func in _IN_PLACE_ONLY):
        raise NotImplementedError(
            f"{name_of(func)} under no_grad changes a linearised value in place; write it out of place"
        )
    return func(*unwrap(args), **unwrap(kwargs))


def _writable(target: Any, func: Any) -> Pair:
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


class LinearMap(torch.autograd.Function):
    """A linear map of tangents with its adjoint: ``LinearMap.apply(forward, adjoint, *tangents)``.

    ``forward(*tangents)`` returns one tensor, ``adjoint(gradient)`` a tuple with one gradient per tangent.
    """

    @staticmethod
    def forward(  # type: ignore[override]
        ctx: Any, forward: Callable[..., Tensor], adjoint: Callable[[Tensor], tuple[Tensor, ...]], *tangents: Tensor
    ) -> Tensor:
        ctx.adjoint = adjoint
        return forward(*tangents)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> Any:
        return (None, None, *ctx.adjoint(gradient))
