"""How a network is trained: mini-batches and an optimizer."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from selftune.errors import SettingError
from selftune.fields import check_fields, shown
from selftune.optimizers import (
    arguments,
    as_arguments,
    build_optimizer,
    check_optimizer,
    check_values,
    laid_out,
    tensors_in,
)
from selftune.parameter_groups import parameter_groups
from selftune.shapes import Tensor

_USUAL_MOMENTUM = {"sgd": 0.9, "adam": 0.9, "adamw": 0.9}
_USUAL_RATE = 0.01


@dataclass(frozen=True)
class Optimization:
    """How the lower level is trained: mini-batches and an optimizer of torch.

    Args:
        batch_size: examples per training step.
        optimizer: a class of ``torch.optim`` in lower case (``sgd``, ``adam``, ``adamw``, ``rmsprop``, ``nadam``,
            ``adagrad``, ...), or a function from parameters to an optimizer, which then has all its settings.
        learning_rate: of the optimizer.
        momentum: of SGD, RMSprop and Muon; the first decay rate of Adam and its like. None takes 0.9 for SGD, Adam
            and AdamW, torch's default for others.
        weight_decay: the optimizer's own; it is not tuned. The regularizers ``weight_decay`` and
            ``decoupled_weight_decay`` can be.
        decay_norms_and_biases: False keeps norm layers and biases free of ``weight_decay``.
        settings: further ones of the optimizer, by torch's names, such as ``{"eps": 1e-6}``.
        groups: settings (``learning_rate``, ``weight_decay``, ``momentum`` and further ones) of the parameters
            whose name matches a pattern such as ``"features.*"``; the first pattern that matches counts.

    Raises:
        SettingError: if a setting is unknown, out of its range, or would do nothing.

    >>> Optimization(learning_rate=0.05).batch_size
    64
    >>> optimization = Optimization(
    ...     optimizer="adamw",
    ...     learning_rate=1e-3,
    ...     weight_decay=0.05,
    ...     decay_norms_and_biases=False,
    ... )
    >>> network = nn.Linear(4, 3)
    >>> optimizer = optimization.build(list(network.parameters()), network)
    >>> [group["weight_decay"] for group in optimizer.param_groups]
    [0.05, 0.0]
    """

    batch_size: int = 64
    optimizer: str | Callable[..., torch.optim.Optimizer] = "sgd"
    learning_rate: float = _USUAL_RATE
    momentum: float | None = None
    weight_decay: float = 0.0
    decay_norms_and_biases: bool = True
    settings: Mapping[str, Any] = field(default_factory=dict)
    groups: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_fields(self)
        if self.batch_size < 1:
            raise SettingError("batch_size", f"must be at least 1, got {self.batch_size}")
        if not (self.learning_rate > 0 and math.isfinite(self.learning_rate)):
            raise SettingError("learning_rate", f"must be a positive number, got {self.learning_rate}")
        if self.momentum is not None and not 0 <= self.momentum < 1:
            raise SettingError("momentum", f"must be at least 0 and below 1, got {self.momentum}")
        if not 0 <= self.weight_decay < math.inf:
            raise SettingError("weight_decay", f"must be at least 0, got {self.weight_decay}")
        self._check_optimizer()

    def _check_optimizer(self) -> None:
        if not isinstance(self.optimizer, str):
            usual: dict[str, Any] = {
                "learning_rate": _USUAL_RATE,
                "momentum": None,
                "weight_decay": 0.0,
                "settings": {},
                "groups": {},
            }
            for key, value in (*usual.items(), ("decay_norms_and_biases", True)):
                if getattr(self, key) != value:
                    raise SettingError(
                        key, "belongs into the function that makes the optimizer; leave it out here"
                    )
            return
        check_optimizer(self.optimizer, self.settings)
        self._as_torch({key: getattr(self, key) for key in ("momentum", "weight_decay") if getattr(self, key)})
        if self.momentum is not None and "betas" in self.settings:
            raise SettingError("momentum", "is the first of the betas in settings; give one of them")
        if self.settings:
            check_values(self.optimizer, self._arguments(), list(self.settings))
        for pattern, own in self.groups.items():
            if not isinstance(own, Mapping):
                raise SettingError(f"groups.{pattern}", f"must be a mapping of settings, got {shown(own)}")
            fields = {key: own[key] for key in own if key in ("learning_rate", "momentum", "weight_decay")}
            others = {key: own[key] for key in own if key not in fields}
            try:
                Optimization(optimizer=self.optimizer, settings={**self.settings, **others}, **fields)
            except SettingError as error:
                key = error.key.removeprefix("settings.")
                raise SettingError(f"groups.{pattern}.{key}", error.message) from error
        decays = self.weight_decay or any(own.get("weight_decay") for own in self.groups.values())
        if not self.decay_norms_and_biases and not decays:
            raise SettingError("decay_norms_and_biases", "changes nothing without weight_decay; give one")

    def _as_torch(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """Settings of ours by torch's names.

        Raises:
            SettingError: if the optimizer has no such thing.
        """
        assert isinstance(self.optimizer, str)
        known = arguments(self.optimizer)
        found: dict[str, Any] = {}
        for key, value in given.items():
            if key == "learning_rate":
                found["lr"] = value
            elif key == "momentum" and "betas" in known and "momentum" not in known:
                found["betas"] = (value, *self._usual_betas()[1:])
            elif key in ("momentum", "weight_decay") and key not in known:
                raise SettingError(key, f"{self.optimizer} has none; leave it out")
            else:
                found[key] = value
        return as_arguments(found)

    def _usual_betas(self) -> tuple[float, ...]:
        assert isinstance(self.optimizer, str)
        betas = self.settings.get("betas")
        return tuple(betas) if betas is not None else _default(self.optimizer, "betas")

    def _arguments(self) -> dict[str, Any]:
        """What all parameters are optimized with, by torch's names."""
        assert isinstance(self.optimizer, str)
        given: dict[str, Any] = {"learning_rate": self.learning_rate}
        momentum = _USUAL_MOMENTUM.get(self.optimizer) if self.momentum is None else self.momentum
        if momentum is not None and "betas" not in self.settings:
            given["momentum"] = momentum
        if "weight_decay" in arguments(self.optimizer):
            given["weight_decay"] = self.weight_decay
        return self._as_torch(given) | as_arguments(self.settings)

    @property
    def momentum_of_sgd(self) -> float:
        """Momentum that multiplies the long-run step by 1 / (1 - momentum); Adam's moments do not."""
        if self.optimizer != "sgd":
            return 0.0
        return _USUAL_MOMENTUM["sgd"] if self.momentum is None else self.momentum

    def build(self, parameters: Sequence[Tensor], network: nn.Module | None = None) -> torch.optim.Optimizer:
        """The optimizer of ``parameters``, fused into one kernel per step where torch has one that works.

        Args:
            network: whose parameters they are; needed where groups of them are told apart.

        Raises:
            SettingError: if a pattern of ``groups`` matches nothing, the optimizer does not take the parameters,
                or groups are asked for without a network.
        """
        if not isinstance(self.optimizer, str):
            return self._made(self.optimizer, parameters)
        if not self.groups and self.decay_norms_and_biases:
            return build_optimizer(self.optimizer, parameters, self._arguments())
        if network is None:
            raise SettingError("groups", "need the network whose parameters they are; pass it to build")
        patterns = {pattern: self._as_torch(own) for pattern, own in self.groups.items()}
        groups = parameter_groups(network, parameters, patterns, undecayed=not self.decay_norms_and_biases)
        return build_optimizer(self.optimizer, groups, self._arguments())

    def _made(
        self, make: Callable[..., torch.optim.Optimizer], parameters: Sequence[Tensor]
    ) -> torch.optim.Optimizer:
        optimizer = make(list(parameters))
        if not isinstance(optimizer, torch.optim.Optimizer):
            raise SettingError("optimizer", f"must make an optimizer of torch, but makes {shown(optimizer)}")
        held = set(tensors_in(optimizer.param_groups))
        if held != set(parameters):
            missing = len(set(parameters) - held)
            what = (
                f"leaves out {missing} of the {len(parameters)} parameters"
                if missing
                else "has parameters of others"
            )
            raise SettingError("optimizer", f"{what} that it was given; let it hold exactly these")
        return laid_out(optimizer)


def _default(optimizer: str, argument: str) -> Any:
    found = {name.lower(): cls for name, cls in vars(torch.optim).items() if isinstance(cls, type)}[optimizer]
    return inspect.signature(found).parameters[argument].default
