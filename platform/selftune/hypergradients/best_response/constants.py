"""How a network is run in a response step: its parameters are constants, its submodules are called."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn


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
def submodules_called() -> Iterator[None]:
    """Transformer layers call their submodules, also where torch would fuse them for inference."""
    enabled = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(enabled)
