"""Weights of a module that are masked while it runs: what it computes with is the product with a mask."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn

from selftune.shapes import Tensor

_MASKS = "weight_masks"


def mask_weights(module: nn.Module, masks: Mapping[str, Tensor]) -> None:
    """From now on ``module`` computes with the products of its parameters and these masks, by name.

    The parameters stay what they are, for optimizers, penalties and checkpoints; gradients reach them through the
    mask. ``unmask_weights`` ends it.

    >>> import torch
    >>> layer = nn.Linear(2, 1)
    >>> mask_weights(layer, {"weight": torch.tensor([[1.0, 0.0]])})
    >>> float(layer.weight[0, 1].detach()), len(list(layer.parameters()))
    (0.0, 2)
    >>> unmask_weights(layer)
    >>> isinstance(layer.weight, nn.Parameter)
    True
    """
    module.__dict__[_MASKS] = dict(masks)
    for name, mask in masks.items():
        parameter = module._parameters[name]
        assert parameter is not None
        # what is found in the instance itself goes before parameters, which a module looks up after it
        module.__dict__[name] = parameter * mask.to(parameter.dtype)


def unmask_weights(module: nn.Module) -> None:
    """Ends ``mask_weights``."""
    for name in module.__dict__.pop(_MASKS, {}):
        module.__dict__.pop(name, None)


def mask_of(module: nn.Module, name: str) -> Tensor | None:
    """The mask on a parameter of a module at the moment; None where there is none."""
    masks: dict[str, Any] = module.__dict__.get(_MASKS, {})
    return masks.get(name)
