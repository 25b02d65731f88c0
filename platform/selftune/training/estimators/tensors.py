"""The tensors of a hypergradient, whatever else comes with it."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import TypeVar

from selftune.methods.reports import Hypergradient
from selftune.shapes import Tensor

H = TypeVar("H", bound=Hypergradient)


def tensors_of(found: Hypergradient) -> dict[str, Tensor]:
    """Its tensors by the names of their fields.

    >>> import torch
    >>> tensors_of(Hypergradient(hypergradient=torch.zeros(1)))
    {'hypergradient': tensor([0.])}
    """
    values = {one.name: getattr(found, one.name) for one in fields(found)}
    return {name: value for name, value in values.items() if isinstance(value, Tensor)}


def on_cpu(found: H) -> H:
    """The same with its tensors on the CPU, where reports have them."""
    return replace(found, **{name: tensor.cpu() for name, tensor in tensors_of(found).items()})
