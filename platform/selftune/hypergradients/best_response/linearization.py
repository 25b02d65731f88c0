"""One linearised pass: a network runs on dual numbers, its value a constant, its tangent with a graph."""

from __future__ import annotations

from collections.abc import Iterator, MutableMapping
from contextlib import contextmanager
from typing import Any

import torch
import torch.autograd.forward_ad as fwAD
from torch.overrides import TorchFunctionMode

from selftune.hypergradients.best_response.double_backward import DOUBLE_BACKWARD, double_backward, has_tangent
from selftune.hypergradients.best_response.dual import parts
from selftune.hypergradients.best_response.operations import OPERATIONS, name_of
from selftune.hypergradients.best_response.random_state import random_state, restore

_set_grad_enabled = torch._C._set_grad_enabled
_IN_PLACE = {
    getattr(torch.Tensor, name)
    for name in dir(torch.Tensor)
    if (name.endswith("_") and not name.endswith("__"))
    or name in {"__setitem__", "__iadd__", "__isub__", "__imul__", "__itruediv__", "__ipow__"}
} - {torch.Tensor.detach_, torch.Tensor.requires_grad_}


@contextmanager
def linearization(fallbacks: MutableMapping[str, str], first: bool = False) -> Iterator[None]:
    """Within, torch's forward mode is on, and keeps the promises of ``BestResponse.linearized``.

    Args:
        fallbacks: gets the names of operations without forward derivative, and how they are linearised instead.
        first: whether operations may turn out to have none; random numbers are then drawn as in later passes.

    Raises:
        NotImplementedError: where a tangent would be lost; the message says what to do.
    """
    # The caller's own no_grad is taken off, so that one of the network can be told from it: it means constants.
    with torch.enable_grad(), fwAD.dual_level(), _Linearization(fallbacks, first):
        try:
            yield
        except NotImplementedError as error:
            if "jvp function for custom autograd.Function" not in str(error):
                raise
            raise NotImplementedError(
                "a custom torch.autograd.Function without jvp cannot be linearised, its tangent would be lost; "
                "give it a jvp, or use perturbed() for this network"
            ) from error


class _Linearization(TorchFunctionMode):
    """Sees every operation of the pass, and acts where torch's forward mode alone would not do.

    torch's forward mode goes on under ``torch.no_grad()``, where a network means constants; some operations have
    no forward derivative, some a slow one; and some reads would drop a tangent without a word.
    """

    def __init__(self, fallbacks: MutableMapping[str, str], first: bool) -> None:
        super().__init__()
        self._fallbacks = fallbacks
        self._first = first

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if not torch._C._is_fwd_grad_enabled():
            return self._constant(func, args, kwargs)
        if func is _set_grad_enabled:
            torch._C._set_fwd_grad_enabled(args[0])
            return func(*args)
        special = OPERATIONS.get(func)
        if special is not None:
            return special(*args, **kwargs)
        if self._fallbacks and name_of(func) in self._fallbacks and has_tangent(args, kwargs):
            return double_backward(func, args, kwargs)
        before = random_state() if self._first else None
        try:
            return func(*args, **kwargs)
        except (NotImplementedError, RuntimeError) as error:
            if not _lacks_derivative(error) or not has_tangent(args, kwargs):
                raise
        if before is not None:
            restore(before)
        result = double_backward(func, args, kwargs)
        self._fallbacks[name_of(func)] = DOUBLE_BACKWARD
        return result

    def _constant(self, func: Any, args: Any, kwargs: Any) -> Any:
        """Under no_grad a network computes constants."""
        if func is _set_grad_enabled:
            torch._C._set_fwd_grad_enabled(args[0])
        elif func in _IN_PLACE and _has_hidden_tangent(args[0]):
            raise NotImplementedError(
                f"{name_of(func)} under no_grad changes a linearised value in place; write it out of place"
            )
        return func(*args, **kwargs)


def _has_hidden_tangent(target: Any) -> bool:
    """Whether a tensor has a tangent, which torch does not show while forward mode is off."""
    torch._C._set_fwd_grad_enabled(True)
    try:
        return parts(target)[1] is not None
    finally:
        torch._C._set_fwd_grad_enabled(False)


def _lacks_derivative(error: Exception) -> bool:
    """Whether torch refuses because of a derivative that it does not have."""
    text = str(error)
    return "forward AD" in text or ("derivative for" in text and "not implemented" in text)
