"""How a network is trained: mini-batches and an optimizer."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch

from selftune.errors import SettingError
from selftune.fields import check_fields
from selftune.gradients import lay_out_state
from selftune.precision import is_half
from selftune.shapes import Tensor


@dataclass(frozen=True)
class Optimization:
    """How the lower level is trained: mini-batches and one of torch's optimizers.

    ``momentum`` is the momentum of SGD and the first decay rate of Adam and AdamW.

    >>> Optimization(learning_rate=0.05).batch_size
    64
    """

    batch_size: int = 64
    optimizer: Literal["sgd", "adam", "adamw"] = "sgd"
    learning_rate: float = 0.01
    momentum: float = 0.9

    def __post_init__(self) -> None:
        check_fields(self)
        if self.batch_size < 1:
            raise SettingError("batch_size", f"must be at least 1, got {self.batch_size}")
        if not (self.learning_rate > 0 and math.isfinite(self.learning_rate)):
            raise SettingError("learning_rate", f"must be a positive number, got {self.learning_rate}")
        if not 0 <= self.momentum < 1:
            raise SettingError("momentum", f"must be at least 0 and below 1, got {self.momentum}")

    @property
    def momentum_of_sgd(self) -> float:
        """Momentum that multiplies the long-run step by 1 / (1 - momentum); Adam's moments do not."""
        return self.momentum if self.optimizer == "sgd" else 0.0

    def build(self, parameters: Sequence[Tensor]) -> torch.optim.Optimizer:
        """The optimizer of ``parameters``, fused into one kernel per step where torch has one that works."""
        optimizer = self._built(parameters)
        optimizer.register_load_state_dict_post_hook(lay_out_state)
        return optimizer

    def _built(self, parameters: Sequence[Tensor]) -> torch.optim.Optimizer:
        if self.optimizer == "sgd":
            # on the CPU, torch's fused SGD leaves parameters of half precision where they are, up to a remainder
            # of a few elements: pytorch/pytorch issue 191763
            skipped = any(is_half(p) and p.device.type == "cpu" for p in parameters)
            return torch.optim.SGD(parameters, lr=self.learning_rate, momentum=self.momentum, fused=not skipped)
        kind = torch.optim.Adam if self.optimizer == "adam" else torch.optim.AdamW
        return kind(parameters, lr=self.learning_rate, betas=(self.momentum, 0.999), weight_decay=0.0, fused=True)
