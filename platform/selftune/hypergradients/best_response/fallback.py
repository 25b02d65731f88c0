"""Operations without a rule: forward-mode differentiation of the one operation, else double backward."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.autograd.forward_ad as fwAD
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from selftune.hypergradients.best_response.linear_map import linear_map
from selftune.hypergradients.best_response.pair import CURRENT, Pair, name_of, pair, unwrap

FORWARD_MODE = "forward-mode"
DOUBLE_BACKWARD = "double backward"


def fall_back(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """The result of ``func`` on pairs, its way recorded in the current pass's ``fallbacks``.

    Raises:
        NotImplementedError: if the operation has neither a forward derivative nor a differentiable backward.
    """
    name = name_of(func)
    current = CURRENT.get(None)
    fallbacks = {} if current is None else current.fallbacks
    operands: list[Pair] = []
    unwrap((args, kwargs), operands.append)
    for operand in operands:
        operand.shared = True  # an operation we know nothing about may return a view

    # Only the math kernel of scaled_dot_product_attention has a forward derivative.
    with sdpa_kernel(SDPBackend.MATH):
        if fallbacks.get(name) != DOUBLE_BACKWARD:
            random = _random_state(operands)
            try:
                result = _forward_mode(func, args, kwargs)
            except NotImplementedError:
                _restore(random)
            else:
                if _holds_pair(result):
                    fallbacks[name] = FORWARD_MODE
                return result
        try:
            with torch.enable_grad():
                result = _double_backward(func, args, kwargs, operands)
        except (NotImplementedError, RuntimeError) as error:
            raise NotImplementedError(
                f"{name} cannot be linearised: torch has neither its forward derivative nor its second "
                f"backward; use perturbed() for this network ({error})"
            ) from error
    fallbacks[name] = DOUBLE_BACKWARD
    return result


def _forward_mode(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    with fwAD.dual_level():

        def lift(operand: Pair) -> Tensor:
            dual: Tensor = fwAD.make_dual(  # type: ignore[no-untyped-call]
                operand.value, operand.tangent.to(operand.value.dtype)
            )
            return dual

        result = func(*unwrap(args, lift), **unwrap(kwargs, lift))

        def lower(output: Tensor) -> Any:
            if not output.is_floating_point():
                return output
            primal, tangent = fwAD.unpack_dual(output)  # type: ignore[no-untyped-call]
            return primal if tangent is None else pair(primal, tangent, shared=True)

        return map_tensors(result, lower)


def _double_backward(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], operands: list[Pair]) -> Any:
    """J t = d/dv <J^T v, t>. Only t is differentiated afterwards, and its adjoint is plain backward."""
    inputs: dict[int, Tensor] = {}
    for operand in operands:
        inputs.setdefault(id(operand), operand.value.detach().requires_grad_())
    tangents = [{id(operand): operand for operand in operands}[key].tangent for key in inputs]
    leaves = list(inputs.values())

    def lift(operand: Pair) -> Tensor:
        return inputs[id(operand)]

    result = func(*unwrap(args, lift), **unwrap(kwargs, lift))

    def lower(output: Tensor) -> Any:
        if not output.requires_grad:
            return output
        cotangent = torch.zeros_like(output, requires_grad=True)
        pulled = torch.autograd.grad(output, leaves, cotangent, create_graph=True, materialize_grads=True)

        def forward(*directions: Tensor) -> Tensor:
            moved = [(p, d) for p, d in zip(pulled, directions, strict=True) if p.requires_grad]
            sources, along = [p for p, _ in moved], [d for _, d in moved]
            options = {"retain_graph": True, "materialize_grads": True}
            (pushed,) = torch.autograd.grad(sources, cotangent, along, **options)
            return pushed

        def adjoint(gradient: Tensor) -> tuple[Tensor, ...]:
            return torch.autograd.grad(output, leaves, gradient, retain_graph=True, materialize_grads=True)

        return pair(output.detach(), linear_map(forward, adjoint, *tangents), shared=True)

    return map_tensors(result, lower)


def map_tensors(tree: Any, function: Callable[[Tensor], Any]) -> Any:
    """``tree`` (nested tuples, lists, dicts) with ``function(t)`` in place of every tensor t."""
    if isinstance(tree, Tensor):
        return function(tree)
    if isinstance(tree, tuple):
        items = [map_tensors(item, function) for item in tree]
        return type(tree)(*items) if hasattr(tree, "_fields") else tuple(items)
    if isinstance(tree, list):
        return [map_tensors(item, function) for item in tree]
    if isinstance(tree, dict):
        return {key: map_tensors(item, function) for key, item in tree.items()}
    return tree


def _holds_pair(tree: Any) -> bool:
    found: list[Pair] = []
    unwrap(tree, found.append)
    return bool(found)


def _random_state(operands: list[Pair]) -> list[tuple[torch.device, Tensor]]:
    """So that an operation that is tried twice draws the same random numbers the second time."""
    cuda = {p.value.device for p in operands if p.value.is_cuda}
    return [
        (torch.device("cpu"), torch.get_rng_state()),
        *((device, torch.cuda.get_rng_state(device)) for device in cuda),
    ]


def _restore(states: list[tuple[torch.device, Tensor]]) -> None:
    for device, state in states:
        if device.type == "cuda":
            torch.cuda.set_rng_state(state, device)
        else:
            torch.set_rng_state(state)
