"""Dual numbers: tensors of torch's forward mode, each a constant value with its tangent."""

from __future__ import annotations

from typing import Any

import torch
import torch.autograd.forward_ad as fwAD

from selftune.data.nested import mapped
from selftune.networks.precision import typed_as, widened
from selftune.shapes import Tensor

_VF: Any = torch._VF


def dual(value: Tensor, tangent: Tensor) -> Tensor:
    """``value`` with ``tangent`` (same shape), which gets the type of the value."""
    made: Tensor = _VF._make_dual(value, typed_as(tangent, value), level=0)
    return made


def parts(tensor: Any) -> tuple[Any, Tensor | None]:
    """Value and tangent; None in place of the tangent of what has none."""
    if not isinstance(tensor, Tensor):
        return tensor, None
    value, tangent = _VF._unpack_dual(tensor, level=0)
    return (tensor, None) if tangent is None else (value, tangent)


def total(tree: Any) -> Any:
    """Value and tangent as one wherever ``tree`` holds a dual number; everything else as it is.

    In float32 at least: half precision would round small tangents away.
    """
    if fwAD._current_level < 0:
        return tree

    def added(tensor: Tensor) -> Tensor:
        value, tangent = parts(tensor)
        return tensor if tangent is None else widened(value) + widened(tangent)

    return added(tree) if isinstance(tree, Tensor) else mapped(added, tree)
