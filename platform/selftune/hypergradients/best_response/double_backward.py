"""Operations without a forward derivative: the Jacobian-vector product by two backward passes of the operation."""

from __future__ import annotations

from typing import Any

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

from selftune.data.nested import mapped, tensors_in
from selftune.hypergradients.best_response.dual import dual, parts
from selftune.hypergradients.best_response.linear_map import linear_map
from selftune.hypergradients.best_response.operations import name_of
from selftune.shapes import Tensor

DOUBLE_BACKWARD = "double backward"


def has_tangent(args: Any, kwargs: Any) -> bool:
    return any(parts(tensor)[1] is not None for tensor in tensors_in((args, list(kwargs.values()))))


def double_backward(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """The result of ``func`` on dual numbers, J t = d/dv <J^T v, t>; only t has a graph, which is plain backward.

    Raises:
        NotImplementedError: if the operation's backward pass cannot be differentiated.
    """
    try:
        with torch.enable_grad(), sdpa_kernel(SDPBackend.MATH):
            return _double_backward(func, args, kwargs)
    except (NotImplementedError, RuntimeError) as error:
        raise NotImplementedError(
            f"{name_of(func)} cannot be linearised: torch has neither its forward derivative nor its second "
            f"backward; use perturbed() for this network ({error})"
        ) from error


def _double_backward(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    lifted: dict[int, Tensor] = {}
    tangents: list[Tensor] = []

    def lift(tensor: Tensor) -> Tensor:
        value, tangent = parts(tensor)
        if tangent is None:
            return tensor
        if id(tensor) not in lifted:
            lifted[id(tensor)] = value.detach().requires_grad_()
            tangents.append(tangent)
        return lifted[id(tensor)]

    lifted_args, lifted_kwargs = mapped(lift, args), mapped(lift, kwargs)
    leaves = list(lifted.values())
    result = func(*lifted_args, **lifted_kwargs)

    def lower(output: Tensor) -> Tensor:
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

        return dual(output.detach(), linear_map(forward, adjoint, *tangents))

    return mapped(lower, result)
