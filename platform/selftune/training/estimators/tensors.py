"""The tensors of a hypergradient, whatever else comes with it."""

from __future__ import annotations

from collections.abc import Mapping
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


def with_tensors(found: H, tensors: Mapping[str, Tensor]) -> H:
    """The same with other tensors in the fields of these names: those on the CPU, where reports have them.

    >>> import torch
    >>> with_tensors(Hypergradient(hypergradient=torch.zeros(1)), {"hypergradient": torch.ones(1)})
    Hypergradient(hypergradient=tensor([1.]))
    """
    return replace(found, **tensors)
