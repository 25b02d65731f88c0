"""Keeping constant what a response step must not change: elementary parameters and running statistics."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.instancenorm import _InstanceNorm


@contextmanager
def constant_parameters(model: nn.Module) -> Iterator[None]:
    """No gradient is recorded for the parameters of ``model``."""
    parameters = [p for p in model.parameters() if p.requires_grad]
    for parameter in parameters:
        parameter.requires_grad = False
    try:
        yield
    finally:
        for parameter in parameters:
            parameter.requires_grad = True


@contextmanager
def frozen_statistics(model: nn.Module) -> Iterator[None]:
    """Norm layers in training mode use the statistics of the batch and leave their running ones alone.

    A forward pass on perturbed data, the second one on a batch, belongs in here.
    """
    batch_norms: list[_BatchNorm] = []
    instance_norms: list[tuple[_InstanceNorm, float | None]] = []
    for module in model.modules():
        if isinstance(module, _BatchNorm) and module.training and module.track_running_stats:
            batch_norms.append(module)
        elif isinstance(module, _InstanceNorm) and module.training and module.track_running_stats:
            instance_norms.append((module, module.momentum))
    try:
        for module in batch_norms:
            module.track_running_stats = False
        for module, _ in instance_norms:
            module.momentum = 0.0
        yield
    finally:
        for module in batch_norms:
            module.track_running_stats = True
        for module, momentum in instance_norms:
            module.momentum = momentum


@contextmanager
def submodules_called() -> Iterator[None]:
    """Transformer layers call their submodules, also where torch would fuse them for inference."""
    enabled = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(enabled)
