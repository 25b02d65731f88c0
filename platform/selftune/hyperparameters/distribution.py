"""Distributions: what a search draws a value from, and how a study file writes one.

A domain says which values are allowed; a distribution says how they are drawn. A domain has one of its own, its
prior (``Domain.prior``).
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from selftune.errors import SettingError, suggestion
from selftune.fields import LARGEST, shown


class Distribution(ABC):
    """What a value is drawn from: a quantile for every fraction, and the same for Ray Tune and Optuna."""

    @abstractmethod
    def quantile(self, fraction: float) -> Any:
        """The value below which a fraction in [0, 1] of all draws lie; 0 and 1 are the ends."""

    @abstractmethod
    def contains(self, value: Any) -> bool:
        """Whether a draw can be this value.

        >>> Uniform(0.0, 0.5).contains(0.6), Integers(1, 4).contains(4), Choices(("a", "b")).contains("c")
        (False, True, False)
        """

    def sample(self, generator: torch.Generator) -> Any:
        """One draw.

        >>> 1 <= Integers(1, 8).sample(torch.Generator().manual_seed(0)) <= 8
        True
        """
        return self.quantile(torch.rand((), generator=generator, dtype=torch.float64).item())

    @abstractmethod
    def to_ray(self) -> Any:
        """The search domain of ``ray.tune``."""

    @abstractmethod
    def to_optuna(self) -> Any:
        """The distribution of ``optuna``."""

    @abstractmethod
    def to_mapping(self) -> dict[str, list[Any]]:
        """How a study file writes it; the inverse of ``distribution_of``."""

    @abstractmethod
    def describe(self) -> str:
        """The values in words, as error messages print them."""


@dataclass(frozen=True)
class Uniform(Distribution):
    """Numbers from ``low`` to ``high``, each as likely as any other.

    Raises:
        ValueError: if the ends are not finite, or ``low`` is not below ``high``.

    >>> Uniform(0.0, 0.5).quantile(0.5)
    0.25
    """

    low: float
    high: float

    def __post_init__(self) -> None:
        _check_ends("a uniform distribution", self.low, self.high)

    def quantile(self, fraction: float) -> float:
        return min(self.low + fraction * (self.high - self.low), self.high)

    def contains(self, value: Any) -> bool:
        return _is_number(value) and self.low <= value <= self.high

    def to_ray(self) -> Any:
        from ray import tune

        return tune.uniform(self.low, self.high)

    def to_optuna(self) -> Any:
        from optuna.distributions import FloatDistribution

        return FloatDistribution(self.low, self.high)

    def to_mapping(self) -> dict[str, list[Any]]:
        return {"uniform": [self.low, self.high]}

    def describe(self) -> str:
        return f"a number from {self.low:g} to {self.high:g}"


@dataclass(frozen=True)
class LogUniform(Distribution):
    """Positive numbers from ``low`` to ``high``, each order of magnitude as likely as any other.

    Raises:
        ValueError: if ``low`` is not positive, the ends are not finite, or ``low`` is not below ``high``.

    >>> round(LogUniform(1e-4, 1.0).quantile(0.5), 6)
    0.01
    """

    low: float
    high: float

    def __post_init__(self) -> None:
        _check_ends("a log-uniform distribution", self.low, self.high)
        if self.low <= 0:
            raise ValueError(f"a log-uniform distribution needs low > 0, got {self.low:g}")

    def quantile(self, fraction: float) -> float:
        exponent = (1 - fraction) * math.log(self.low) + fraction * math.log(self.high)
        return min(max(math.exp(exponent), self.low), self.high)  # the ends themselves, not rounded past them

    def contains(self, value: Any) -> bool:
        return _is_number(value) and self.low <= value <= self.high

    def to_ray(self) -> Any:
        from ray import tune

        return tune.loguniform(self.low, self.high)

    def to_optuna(self) -> Any:
        from optuna.distributions import FloatDistribution

        return FloatDistribution(self.low, self.high, log=True)

    def to_mapping(self) -> dict[str, list[Any]]:
        return {"log_uniform": [self.low, self.high]}

    def describe(self) -> str:
        return f"a positive number from {self.low:g} to {self.high:g}, uniform in its logarithm"


@dataclass(frozen=True)
class Integers(Distribution):
    """Whole numbers from ``low`` to ``high``, both included, each as likely as any other.

    Raises:
        ValueError: if an end is no whole number, or ``low`` is not below ``high``.

    >>> Integers(1, 4).quantile(0.5), Integers(1, 4).quantile(1.0)
    (3, 4)
    """

    low: int
    high: int

    def __post_init__(self) -> None:
        for end in (self.low, self.high):
            if isinstance(end, bool) or not isinstance(end, int):
                raise ValueError(f"a distribution of whole numbers needs whole numbers as ends, got {shown(end)}")
        _check_ends("a distribution of whole numbers", self.low, self.high)

    def quantile(self, fraction: float) -> int:
        return min(self.low + math.floor(fraction * (self.high + 1 - self.low)), self.high)

    def contains(self, value: Any) -> bool:
        return isinstance(value, int) and not isinstance(value, bool) and self.low <= value <= self.high

    def to_ray(self) -> Any:
        from ray import tune

        return tune.randint(self.low, self.high + 1)  # Ray leaves the upper end out

    def to_optuna(self) -> Any:
        from optuna.distributions import IntDistribution

        return IntDistribution(self.low, self.high)

    def to_mapping(self) -> dict[str, list[Any]]:
        return {"integer": [self.low, self.high]}

    def describe(self) -> str:
        return f"a whole number from {self.low} to {self.high}"


@dataclass(frozen=True)
class Choices(Distribution):
    """One of a few options (texts, numbers, true or false, lists), each as likely as any other.

    Raises:
        ValueError: if there is no option, or one twice.

    >>> Choices(("adam", "sgd")).quantile(1.0)
    'sgd'
    """

    options: tuple[Any, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "options", tuple(self.options))
        if not self.options:
            raise ValueError("a choice needs at least one option")
        for index, option in enumerate(self.options):
            if any(_same(option, other) for other in self.options[:index]):
                raise ValueError(f"a choice needs options that differ, got {shown(option)} twice")

    def quantile(self, fraction: float) -> Any:
        return self.options[min(math.floor(fraction * len(self.options)), len(self.options) - 1)]

    def contains(self, value: Any) -> bool:
        return any(_same(option, value) for option in self.options)

    def to_ray(self) -> Any:
        from ray import tune

        return tune.choice(list(self.options))

    def to_optuna(self) -> Any:
        from optuna.distributions import CategoricalDistribution

        return CategoricalDistribution(list(self.options))

    def to_mapping(self) -> dict[str, list[Any]]:
        return {"choice": list(self.options)}

    def describe(self) -> str:
        return "one of " + ", ".join(repr(option) for option in self.options)


_FORMS = {
    "uniform": "uniform: [low, high]",
    "log_uniform": "log_uniform: [low, high]",
    "integer": "integer: [low, high]",
    "choice": "choice: [option, ...]",
}


def distribution_of(mapping: Any) -> Distribution:
    """The distribution that a study file writes as a mapping with one key.

    Raises:
        SettingError: one sentence; its key is the distribution's name, or empty where there is none, so that the
            caller puts the swept key before it.

    >>> distribution_of({"log_uniform": [1e-3, 1e-1]})
    LogUniform(low=0.001, high=0.1)
    >>> distribution_of({"integer": [1, 2.5]})
    Traceback (most recent call last):
    selftune.errors.SettingError: integer: must be two whole numbers [low, high], got [1, 2.5]
    """
    known = "write one of: " + "; ".join(_FORMS.values())
    if not isinstance(mapping, Mapping):
        raise SettingError("", f"must be a distribution, got {shown(mapping)}; {known}")
    if len(mapping) != 1:
        raise SettingError("", f"must name one distribution, got {len(mapping)} keys; {known}")
    ((name, given),) = mapping.items()
    if name not in _FORMS:
        raise SettingError(str(name), f"unknown distribution; {suggestion(str(name), _FORMS)}")
    try:
        if name == "choice":
            if not _is_list(given):
                raise SettingError(name, f"must be a list of options, got {shown(given)}")
            return Choices(tuple(given))
        low, high = _ends(name, given)
        if name == "integer":
            return Integers(low, high)
        return Uniform(float(low), float(high)) if name == "uniform" else LogUniform(float(low), float(high))
    except SettingError:
        raise
    except ValueError as error:
        raise SettingError(name, str(error)) from error


def _ends(name: str, given: Any) -> Sequence[Any]:
    kind = int if name == "integer" else int | float
    numbers = "whole numbers" if name == "integer" else "numbers"
    if (
        not _is_list(given)
        or len(given) != 2
        or any(isinstance(end, bool) or not isinstance(end, kind) for end in given)
    ):
        raise SettingError(name, f"must be two {numbers} [low, high], got {shown(given)}")
    return list(given)


def _is_list(given: Any) -> bool:
    return isinstance(given, Sequence) and not isinstance(given, str | bytes)


def _check_ends(what: str, low: float, high: float) -> None:
    if not (-LARGEST <= low <= LARGEST and -LARGEST <= high <= LARGEST):
        raise ValueError(f"{what} needs two finite ends of single precision, got {low:g} and {high:g}")
    if not low < high:
        raise ValueError(f"{what} needs low < high, got low = {low:g} and high = {high:g}")


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _same(option: Any, other: Any) -> bool:
    return type(option) is type(other) and bool(option == other)  # 1, 1.0 and true are three options
