"""Gradients that are not made by ``backward``, handed to an optimizer."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch.optim import Optimizer

from selftune.shapes import Tensor


def give_gradients(parameters: Iterable[Tensor], gradients: Iterable[Tensor | None]) -> None:
    """Sets ``.grad``, in the type of every parameter and laid out in memory as the parameter is.

    ``backward`` sees to both by itself, ``torch.autograd.grad`` to neither. Torch's fused optimizers pair the
    elements of a parameter and of its gradient by where they lie in memory: they would step along the transposed
    gradient of a parameter in ``channels_last``, without a word.

    >>> weight = torch.zeros(1, 2, 1, 2, requires_grad=True).to(memory_format=torch.channels_last)
    >>> weight = weight.detach().requires_grad_()
    >>> give_gradients([weight], [torch.ones(1, 2, 1, 2)])
    >>> weight.grad.stride() == weight.stride()
    True
    """
    for parameter, gradient in zip(parameters, gradients, strict=True):
        parameter.grad = gradient if gradient is None else laid_out_as(parameter, gradient, parameter.dtype)


def laid_out_as(parameter: Tensor, tensor: Tensor, dtype: torch.dtype) -> Tensor:
    """``tensor`` in a type and with the strides of ``parameter``; itself where it has them."""
    if tensor.stride() == parameter.stride() and tensor.dtype == dtype:
        return tensor
    return torch.empty_like(parameter, dtype=dtype, requires_grad=False).copy_(tensor)


def lay_out_state(optimizer: Optimizer) -> None:
    """Lays out the state of an optimizer as its parameters are, where a file has lost how its tensors lay."""
    for parameter, state in optimizer.state.items():
        for name, value in state.items():
            if isinstance(value, Tensor) and value.shape == parameter.shape:
                state[name] = laid_out_as(parameter, value, value.dtype)
