"""Operations on pairs off the fast path: in place, under no_grad, or without a rule."""

from __future__ import annotations

import sys
from typing import Any

import torch

from selftune.hypergradients.best_response.fallback import fall_back
from selftune.hypergradients.best_response.in_place import IN_PLACE_ONLY, OUT_OF_PLACE, replace, writable
from selftune.hypergradients.best_response.pair import CURRENT, READS, RULES, Pair, name_of, unwrap


def dispatch(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """The result of ``func`` on pairs.

    Raises:
        NotImplementedError: where the tangent would be lost; the message says how to write it instead.
    """
    rule = RULES.get(func)
    current = CURRENT.get(None)
    if not torch.is_grad_enabled() and (current is None or current.grad_enabled) and func not in READS:
        return _without_gradients(func, args, kwargs)
    if kwargs.pop("out", None) is not None:
        raise NotImplementedError(f"{name_of(func)} with out= would lose a tangent; leave out= away")
    if func in OUT_OF_PLACE:
        return replace(writable(args[0], func), OUT_OF_PLACE[func](*args, **kwargs))
    if kwargs.get("inplace"):
        return replace(args[0], func(*args, **{**kwargs, "inplace": False}))
    if rule is not None:
        return rule(*args, **kwargs)
    if func in IN_PLACE_ONLY:
        raise NotImplementedError(
            f"{name_of(func)} on a linearised value writes in place and has no rule; write it out of place"
        )
    return fall_back(func, args, kwargs)


def _without_gradients(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Under no_grad a network computes constants, but a custom Function computes its forward pass there too."""
    function_applied = torch.autograd.Function.apply.__func__.__code__  # type: ignore[attr-defined]
    frame = sys._getframe()
    while frame.f_back is not None:
        frame = frame.f_back
        if frame.f_code is function_applied:
            raise NotImplementedError(
                "a custom torch.autograd.Function cannot be linearised, its tangent would be lost; "
                "use perturbed() for this network"
            )
    if args and type(args[0]) is Pair and (func in OUT_OF_PLACE or func in IN_PLACE_ONLY):
        raise NotImplementedError(
            f"{name_of(func)} under no_grad changes a linearised value in place; write it out of place"
        )
    return func(*unwrap(args), **unwrap(kwargs))
