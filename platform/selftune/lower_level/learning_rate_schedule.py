"""How a learning rate changes during training: warm-up, then a curve by name or a scheduler of torch."""

from __future__ import annotations

import bisect
import inspect
import itertools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

from torch.optim import Optimizer, lr_scheduler

from selftune.errors import SettingError, suggestion
from selftune.fields import check_fields, shown

Scheduler = lr_scheduler.LRScheduler
Curve = Callable[[float], float]
"""Share of the learning rate after so many training steps since the warm-up."""


def constant(length: int | None) -> Curve:
    """1 throughout."""
    return lambda step: 1.0


def linear(length: int, *, final: float = 0.0) -> Curve:
    """A straight line from 1 to ``final``."""
    _check_share("final", final)
    return lambda step: 1 + (final - 1) * min(step / length, 1)


def cosine(length: int, *, final: float = 0.0) -> Curve:
    """Half a period of a cosine, from 1 to ``final`` (SGDR without restarts, arXiv 1608.03983)."""
    _check_share("final", final)
    return lambda step: final + (1 - final) * (1 + math.cos(math.pi * min(step / length, 1))) / 2


def step(
    length: int | None,
    *,
    step_size: int | None = None,
    milestones: Sequence[int] | None = None,
    gamma: float = 0.1,
) -> Curve:
    """Times ``gamma`` every ``step_size`` training steps, or after each of the ``milestones``."""
    if (step_size is None) == (milestones is None):
        raise SettingError("step_size", "give either step_size or milestones")
    if step_size is not None and (not _whole(step_size) or step_size < 1):
        raise SettingError("step_size", f"must be a whole number of at least 1, got {shown(step_size)}")
    if milestones is not None and not _rising(milestones):
        raise SettingError("milestones", f"must be rising whole numbers, got {shown(milestones)}")
    if not _number(gamma) or gamma <= 0:
        raise SettingError("gamma", f"must be a positive number, got {shown(gamma)}")
    if milestones is None:
        size = cast(int, step_size)
        return lambda step: gamma ** (step // size)
    places = list(milestones)
    return lambda step: gamma ** bisect.bisect_right(places, step)


CURVES: dict[str, Callable[..., Curve]] = {"constant": constant, "cosine": cosine, "linear": linear, "step": step}
"""Curves by the name that a schedule has for them."""

ONE_CYCLE = "one_cycle"
_NEEDS_LENGTH = ("cosine", "linear", ONE_CYCLE)
_OTHERS_OF_TORCH = ("LRScheduler", "LambdaLR", "MultiplicativeLR", "SequentialLR", "ChainedScheduler")


@dataclass(frozen=True)
class LearningRateSchedule:
    """The learning rate during training: a linear warm-up, then a curve that multiplies it.

    During the warm-up step t = 0, 1, ... takes the share (t + 1) / (warmup_steps + 1); the step after the warm-up
    takes the whole learning rate. Every parameter group has its own rate and the same shares of it.

    Args:
        name: ``constant``, ``linear``, ``cosine``, ``step``, ``one_cycle`` (torch's ``OneCycleLR``, whose largest
            rate is the learning rate; the momentum cycles, too), or a class of ``torch.optim.lr_scheduler`` such
            as ``ExponentialLR``, which takes its own ``settings``.
        warmup_steps: training steps of the warm-up, with the first four.
        steps: training steps at whose end ``linear``, ``cosine`` and ``one_cycle`` arrive; None takes those of the
            run. Later steps keep the last value.
        settings: of the curve: ``final`` (share of the rate at the end of ``linear`` and ``cosine``, 0),
            ``step_size`` or ``milestones`` and ``gamma`` of ``step``; of ``one_cycle`` and other classes, torch's.

    Raises:
        SettingError: if there is no such name or setting, or a value is out of its range.

    >>> schedule = LearningRateSchedule("cosine", warmup_steps=1)
    >>> [round(schedule.share(step, 5), 2) for step in range(6)]
    [0.5, 1.0, 0.85, 0.5, 0.15, 0.0]
    """

    name: str = "constant"
    warmup_steps: int = 0
    steps: int | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_fields(self)
        if self.name not in names():
            if self.name == "ReduceLROnPlateau":
                raise SettingError("name", "ReduceLROnPlateau asks for a metric, which training steps do not have")
            raise SettingError("name", f"unknown name {self.name!r}; {suggestion(self.name, names())}")
        if self.warmup_steps < 0:
            raise SettingError("warmup_steps", f"must be at least 0, got {self.warmup_steps}")
        if self.warmup_steps and self.name not in CURVES:
            raise SettingError(
                "warmup_steps", f"is not for {self.name}, which has a course of its own; leave it out"
            )
        if self.steps is not None:
            if self.name not in _NEEDS_LENGTH:
                raise SettingError(
                    "steps", f"is not for {self.name}, which does not depend on the end; leave it out"
                )
            if self.steps <= self.warmup_steps:
                raise SettingError("steps", f"must be above the warm-up of {self.warmup_steps}, got {self.steps}")
        self._check_settings()

    def _check_settings(self) -> None:
        for key in self.settings:
            if key not in self._known():
                raise SettingError(key, f"{self.name} has no such setting; {suggestion(key, self._known())}")
        if self.name in CURVES:
            self._curve(1)

    def _known(self) -> list[str]:
        described = CURVES.get(self.name) or _class(self.name)
        hidden = ("length", "optimizer", "last_epoch", "max_lr", "total_steps", "epochs", "steps_per_epoch")
        return [name for name in inspect.signature(described).parameters if name not in hidden]

    @staticmethod
    def of(given: str | Mapping[str, Any]) -> LearningRateSchedule:
        """A schedule from its name, or from a mapping of its name and all settings at one level.

        >>> LearningRateSchedule.of({"name": "step", "step_size": 100}).settings
        {'step_size': 100}
        """
        if isinstance(given, str):
            return LearningRateSchedule(given)
        own = {key: given[key] for key in ("name", "warmup_steps", "steps") if key in given}
        return LearningRateSchedule(**own, settings={key: given[key] for key in given if key not in own})

    def mistakes(self, steps: int | None) -> Iterator[SettingError]:
        """Why it does not fit a run of so many training steps; None where nobody knows how many."""
        if self.name in _NEEDS_LENGTH and self.steps is None and steps is None:
            yield SettingError(
                "steps", f"is missing: {self.name} has to know its end, and this run has no number of steps"
            )
        if steps is not None and self.warmup_steps >= steps:
            yield SettingError(
                "warmup_steps", f"must be below the {steps} training steps of the run, got {self.warmup_steps}"
            )
        if self.name == ONE_CYCLE and steps is not None and self.steps is not None and self.steps < steps:
            yield SettingError(
                "steps",
                f"must be at least the {steps} training steps of the run: one_cycle has no rate after its end;"
                f" got {self.steps}",
            )

    def share(self, number: int, steps: int | None = None) -> float:
        """The share of the learning rate that a training step takes; of the curves, not of torch's classes.

        Args:
            steps: of the run.
        """
        if number < self.warmup_steps:
            return (number + 1) / (self.warmup_steps + 1)
        length = self.steps or steps
        return self._curve(None if length is None else length - self.warmup_steps)(number - self.warmup_steps)

    def build(self, optimizer: Optimizer, steps: int | None = None) -> Scheduler:
        """The scheduler of an optimizer, whose ``step`` is called after every training step.

        Args:
            steps: of the run.

        Raises:
            SettingError: if torch does not take its settings.
        """
        if self.name in CURVES:
            return lr_scheduler.LambdaLR(optimizer, lambda number: self.share(number, steps))
        settings = dict(self.settings)
        if self.name == ONE_CYCLE:
            rates = [group["lr"] for group in optimizer.param_groups]
            settings |= {"max_lr": rates, "total_steps": self.steps or steps}
        try:
            return cast(Scheduler, _class(self.name)(optimizer, **settings))
        except (TypeError, ValueError) as error:
            raise SettingError("name", f"{self.name} cannot be made: {error}") from error

    def _curve(self, length: int | None) -> Curve:
        return CURVES[self.name](length, **self.settings)


def names() -> list[str]:
    """What a schedule can be called."""
    classes = [
        name
        for name, cls in vars(lr_scheduler).items()
        if isinstance(cls, type) and issubclass(cls, Scheduler) and name not in _OTHERS_OF_TORCH
    ]
    return [*CURVES, ONE_CYCLE, *sorted(set(classes) - {"ReduceLROnPlateau"})]


def _class(name: str) -> Any:
    return lr_scheduler.OneCycleLR if name == ONE_CYCLE else getattr(lr_scheduler, name)


def _check_share(key: str, value: object) -> None:
    if not _number(value) or not 0 <= cast(float, value) <= 1:
        raise SettingError(key, f"must be a number from 0 to 1, got {shown(value)}")


def _number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _rising(values: object) -> bool:
    if (
        not isinstance(values, list | tuple)
        or not values
        or not all(_whole(value) and value > 0 for value in values)
    ):
        return False
    return all(before < after for before, after in itertools.pairwise(values))
