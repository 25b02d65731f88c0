"""What a loop of one's own brings to its tuner, looked at before the first step."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import nn

from selftune.errors import SettingError
from selftune.fields import shown
from selftune.lower_level.function_objective import Loss
from selftune.regularization.regularizer import Regularizer, overrides
from selftune.shapes import Tensor


def as_module(model: Any) -> nn.Module:
    """The model, if it is a network.

    Raises:
        SettingError: with the key ``model``.
    """
    if not isinstance(model, nn.Module):
        raise SettingError("model", f"must be a network, got {shown(model)}")
    return model


def device_of(network: nn.Module) -> torch.device:
    """Where a network's first parameter is."""
    return next((parameter.device for parameter in network.parameters()), torch.device("cpu"))


def first_layer(network: nn.Module) -> nn.Module:
    """The first module that has parameters of its own; the network where there is none."""
    return next((m for m in network.modules() if next(m.parameters(recurse=False), None) is not None), network)


def held_by(optimizer: torch.optim.Optimizer) -> set[Tensor]:
    """The parameters of an optimizer."""
    return {parameter for group in optimizer.param_groups for parameter in group["params"]}


def check_optimizer(optimizer: Any, network: nn.Module) -> None:
    """Refuses an optimizer that leaves out trained parameters of the network.

    Raises:
        SettingError: with the key ``optimizer``.
    """
    if not isinstance(optimizer, torch.optim.Optimizer):
        raise SettingError("optimizer", f"must be one of torch, got {shown(optimizer)}")
    held = held_by(optimizer)
    trained = {name: p for name, p in network.named_parameters() if p.requires_grad}
    missing = [name for name, parameter in trained.items() if parameter not in held]
    if missing:
        raise SettingError(
            "optimizer",
            f"does not hold {len(missing)} of the model's {len(trained)} trained parameters, {missing[0]} first;"
            " make it of model.parameters(), after moving the model, or freeze what it leaves out"
            " (requires_grad_(False))",
        )


def validation_of(given: Any) -> tuple[Iterable[Any], Loss | None]:
    """The loader, and the loss beside it where there is one.

    Raises:
        SettingError: with the key ``validation``.
    """
    if isinstance(given, tuple) and len(given) == 2 and callable(given[1]):
        return given[0], given[1]
    if not isinstance(given, Iterable):
        raise SettingError("validation", f"must be a loader, or a loader and a loss, got {shown(given)}")
    return given, None


def check_regularizers(regularizers: Iterable[Regularizer]) -> None:
    """Refuses what needs the whole training step, of which a loop of one's own keeps a part for itself."""
    for regularizer in regularizers:
        for hook, why in _NEEDS_THE_STEP.items():
            if overrides(regularizer, hook):
                raise SettingError(
                    regularizer.name, f"{why}, so that a loop of one's own cannot; use selftune.tune"
                )


_NEEDS_THE_STEP = {
    "replace": "makes the whole training step itself",
    "aggregate": "combines gradients of parts of the batch",
    "boundary": "acts between the stages of a continual task",
}


def autocast_of(device: torch.device) -> tuple[bool, torch.dtype]:
    """Whether autocast is on here, and its type."""
    return torch.is_autocast_enabled(device.type), torch.get_autocast_dtype(device.type)
