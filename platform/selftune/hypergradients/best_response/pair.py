"""Pairs: a constant value and its tangent, travelling through an unmodified network together."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from selftune.networks.precision import widened

Rule = Callable[..., Any]
RULES: dict[Any, Rule] = {}
"""Operation (as ``__torch_function__`` names it) -> rule, called with the operation's own arguments."""

READS: set[Any] = set()
"""Operations that read a value without differentiating it: they have rules that return plain values."""


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

    __hash__ = object.__hash__

    @classmethod
    def __torch_function__(
        cls, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        rule = RULES.get(func)
        if rule is None or not torch.is_grad_enabled() or (kwargs and (kwargs.get("inplace") or "out" in kwargs)):
            from selftune.hypergradients.best_response.dispatch import dispatch  # which is written for pairs

            return dispatch(func, args, dict(kwargs or {}))
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


def total(pair: Pair) -> Tensor:
    """Value and tangent as one, in float32 at least: half precision would round small tangents away."""
    return widened(pair.value) + widened(pair.tangent)


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
