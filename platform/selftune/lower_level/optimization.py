"""How a network is trained: mini-batches, an optimizer, and what goes with its steps."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import nn

from selftune.errors import SettingError
from selftune.fields import check_fields, shown
from selftune.lower_level.learning_rate_schedule import CURVES, LearningRateSchedule, Scheduler
from selftune.lower_level.optimizers import (
    arguments,
    as_arguments,
    build_optimizer,
    check_optimizer,
    check_values,
    laid_out,
    tensors_in,
)
from selftune.lower_level.parameter_groups import parameter_groups
from selftune.shapes import Tensor

_USUAL_MOMENTUM = {"sgd": 0.9, "adam": 0.9, "adamw": 0.9}
_USUAL_RATE = 0.01


@dataclass(frozen=True)
class Optimization:
    """How the lower level is trained: mini-batches, an optimizer of torch, and what goes with its steps.

    A training step takes one batch. After its backward pass, where the optimizer is due: regularizers act on the
    gradients, the gradients are clipped, the optimizer steps, regularizers map the weights, the average of the
    weights follows.

    Args:
        batch_size: examples per training step.
        optimizer: a class of ``torch.optim`` in lower case (``sgd``, ``adam``, ``adamw``, ``rmsprop``, ``nadam``,
            ``adagrad``, ...), or a function from parameters to an optimizer, which then has all its settings.
        learning_rate: of the optimizer, the largest one of a schedule.
        momentum: of SGD, RMSprop and Muon; the first decay rate of Adam and its like. None takes 0.9 for SGD, Adam
            and AdamW, torch's default for others.
        weight_decay: the optimizer's own; it is not tuned. The regularizers ``weight_decay`` and
            ``decoupled_weight_decay`` can be.
        decay_norms_and_biases: False keeps norm layers and biases free of ``weight_decay``.
        settings: further ones of the optimizer, by torch's names, such as ``{"eps": 1e-6}``.
        groups: settings (``learning_rate``, ``weight_decay``, ``momentum`` and further ones) of the parameters
            whose name matches a pattern such as ``"features.*"``; the first pattern that matches counts.
        schedule: of the learning rate: a name, a mapping of a name and settings (see ``LearningRateSchedule``), or
            a function from the optimizer to a scheduler of torch, which is stepped after every training step.
        clip_norm: largest norm of all gradients together; larger ones are scaled down.
        clip_value: largest size of an entry of a gradient.
        accumulate: training steps whose gradients are averaged for one step of the optimizer.
        autocast: the type of operations that torch takes to be safe in it. ``float16`` scales the loss.
        average: decay rate of an exponential moving average of the weights, which is what comes out of training;
            None comes out with the last weights. Buffers are not averaged, those of the last step are taken.
        compile: whether plain training steps run through ``torch.compile``.

    Raises:
        SettingError: if a setting is unknown, out of its range, or would do nothing.

    >>> Optimization(learning_rate=0.05).batch_size
    64
    >>> optimization = Optimization(
    ...     optimizer="adamw",
    ...     learning_rate=1e-3,
    ...     weight_decay=0.05,
    ...     decay_norms_and_biases=False,
    ...     schedule={"name": "cosine", "warmup_steps": 100},
    ...     clip_norm=1.0,
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
    schedule: LearningRateSchedule | str | Mapping[str, Any] | Callable[..., Any] | None = None
    clip_norm: float | None = None
    clip_value: float | None = None
    accumulate: int = 1
    autocast: Literal["bfloat16", "float16"] | None = None
    average: float | None = None
    compile: bool = False

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
        for key in ("clip_norm", "clip_value"):
            value = getattr(self, key)
            if value is not None and not (value > 0 and math.isfinite(value)):
                raise SettingError(key, f"must be a positive number, got {value}")
        if self.accumulate < 1:
            raise SettingError("accumulate", f"must be at least 1, got {self.accumulate}")
        if self.average is not None and not 0 < self.average < 1:
            raise SettingError("average", f"must be above 0 and below 1, got {self.average}")
        if isinstance(self.schedule, str | Mapping):
            try:
                object.__setattr__(self, "schedule", LearningRateSchedule.of(self.schedule))
            except SettingError as error:
                raise SettingError(f"schedule.{error.key}", error.message) from error
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

    @property
    def keeps_rate(self) -> bool:
        """Whether learning rate and momentum stay what they are here: no schedule, no optimizer of others."""
        return isinstance(self.optimizer, str) and self.schedule is None

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

    @property
    def _is_by_curve(self) -> bool:
        """Whether the schedule needs no class of torch to be tried out."""
        return self.schedule is None or (
            isinstance(self.schedule, LearningRateSchedule) and self.schedule.name in CURVES
        )

    def build_scheduler(self, optimizer: torch.optim.Optimizer, steps: int | None) -> Scheduler | None:
        """The scheduler of the learning rate; None without a schedule.

        Args:
            steps: training steps of the run; None where nobody knows.

        Raises:
            SettingError: if it cannot be made.
        """
        if self.schedule is None:
            return None
        if isinstance(self.schedule, LearningRateSchedule):
            try:
                return self.schedule.build(optimizer, steps)
            except SettingError as error:
                raise SettingError(f"schedule.{error.key}", error.message) from error
        assert callable(self.schedule)
        scheduler = self.schedule(optimizer)
        if not isinstance(scheduler, Scheduler) or isinstance(
            scheduler, torch.optim.lr_scheduler.ReduceLROnPlateau
        ):
            raise SettingError(
                "schedule", f"must make a scheduler that steps without a metric, but makes {shown(scheduler)}"
            )
        return scheduler

    def mistakes(self, network: nn.Module, steps: int | None, device: torch.device) -> Iterator[SettingError]:
        """Why training like this does not fit a run.

        Args:
            network: what is trained, or another one like it.
            steps: training steps of the run; None where nobody knows.
            device: where it trains.
        """
        try:
            if not (self.optimizer in _USUAL_MOMENTUM and not self.groups and self._is_by_curve):
                trained = [parameter for parameter in network.parameters() if parameter.requires_grad]
                self.build_scheduler(self.build(trained, network), steps)
        except SettingError as error:
            yield error
        if isinstance(self.schedule, LearningRateSchedule):
            for mistake in self.schedule.mistakes(steps):
                yield SettingError(f"schedule.{mistake.key}", mistake.message)
        if steps is not None and self.accumulate > steps:
            yield SettingError(
                "accumulate", f"must be at most the {steps} training steps of the run, got {self.accumulate}"
            )
        if self.autocast is not None and not torch.amp.is_autocast_available(device.type):
            yield SettingError("autocast", f"is not there on {device.type}; leave it out")
        if self.clip_norm is not None and self.clip_value is not None:
            yield SettingError("clip_value", "is given beside clip_norm; give one of them")


def _default(optimizer: str, argument: str) -> Any:
    found = {name.lower(): cls for name, cls in vars(torch.optim).items() if isinstance(cls, type)}[optimizer]
    return inspect.signature(found).parameters[argument].default
