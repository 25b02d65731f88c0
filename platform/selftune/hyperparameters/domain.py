"""Domains: where a hyperparameter lives, and the unconstrained coordinate in which it is tuned.

Source of the transforms: "Self-Tuning Networks" (arXiv 1903.03088) and its official code; the inverses are
the numerically stable forms, exact to float32 rounding over the whole range.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F

from selftune.fields import shown
from selftune.hyperparameters.distribution import Choices, Distribution, Integers, LogUniform, Uniform
from selftune.shapes import Float, Tensor


def inverse_softplus(value: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """The x with ``softplus(x) = value``, for value > 0, without overflow: ``value + log(1 - exp(-value))``."""
    return value + torch.log(-torch.expm1(-value))


class Domain(ABC):
    """Maps a constrained value to an unconstrained one and back, element by element.

    ``movable`` is False where no gradient method can move the value (a choice is swept, never moved).
    """

    movable: bool = True

    @abstractmethod
    def constrain(self, unconstrained: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """The value that the unconstrained coordinate stands for."""

    @abstractmethod
    def unconstrain(self, value: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """The inverse of ``constrain``; infinite on a bound of the domain."""

    @abstractmethod
    def contains(self, value: Any) -> bool:
        """Whether a fixed hyperparameter may have this value (bounds included)."""

    @abstractmethod
    def is_interior(self, value: Any) -> bool:
        """Whether tuning may start here (a bound has no finite unconstrained coordinate)."""

    @property
    def limits(self) -> tuple[float, float]:
        """Bounds of the values."""
        return 0.0, math.inf

    def check_narrows(self, own: Domain) -> None:
        """Refuses to take the place of a domain that allows less.

        Raises:
            ValueError: one sentence.

        >>> Interval(0.0, 0.5).check_narrows(Unit())
        """
        if isinstance(own, Integer) and not isinstance(self, Integer):
            raise ValueError("must be integer: [low, high], because only whole numbers are allowed")
        if self.limits[0] < own.limits[0] or self.limits[1] > own.limits[1]:
            raise ValueError(f"must stay within what is allowed: {own.describe()}")

    @abstractmethod
    def prior(self) -> Distribution:
        """What black-box searches draw values from."""

    def to_ray(self) -> Any:
        """The prior as a search domain of ``ray.tune``."""
        return self.prior().to_ray()

    def to_optuna(self) -> Any:
        """The prior as a distribution of ``optuna``."""
        return self.prior().to_optuna()

    def check_allows(self, distribution: Distribution) -> None:
        """Refuses a distribution that draws values outside the domain.

        Raises:
            ValueError: one sentence.

        >>> Interval(0.0, 0.5).check_allows(Uniform(0.1, 0.4))
        >>> Interval(0.0, 0.5).check_allows(Uniform(0.1, 0.7))
        Traceback (most recent call last):
        ValueError: draws 0.7, but must be a number in [0, 0.5]
        """
        if isinstance(distribution, Choices):
            drawn = distribution.options
        elif isinstance(self, Choice):
            raise ValueError(f"must be choice: [...], because the value is {self.describe()}")
        elif isinstance(self, Integer) and not isinstance(distribution, Integers):
            raise ValueError("must be integer: [low, high], because only whole numbers are allowed")
        else:  # all domains of numbers are intervals
            drawn = (distribution.quantile(0.0), distribution.quantile(1.0))
        for value in drawn:
            if not self.contains(value):
                text = f"{value:g}" if _is_number(value) else shown(value)
                raise ValueError(f"draws {text}, but must be {self.describe()}")

    @abstractmethod
    def describe(self) -> str:
        """The values in words, as error messages print them."""


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and not math.isnan(value)


@dataclass(frozen=True)
class Interval(Domain):
    """Real numbers between ``low`` and ``high``; either may be infinite.

    Two finite bounds use a scaled sigmoid, one finite bound a softplus, none the identity. ``sweep`` is the
    finite range that black-box searches cover; it defaults to the bounds where both are finite.

    Raises:
        ValueError: if ``low`` is not below ``high``, or a search is asked for without a finite range.

    >>> domain = Interval(0.0, 0.5)
    >>> u = domain.unconstrain(torch.tensor(0.125))
    >>> domain.constrain(u)
    tensor(0.1250)
    """

    low: float = -math.inf
    high: float = math.inf
    sweep: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        if not self.low < self.high:
            raise ValueError(f"an interval needs low < high, got low = {self.low:g} and high = {self.high:g}")

    def constrain(self, unconstrained: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        if math.isinf(self.low) and math.isinf(self.high):
            return unconstrained
        if math.isinf(self.high):
            return self.low + F.softplus(unconstrained)
        if math.isinf(self.low):
            return self.high - F.softplus(unconstrained)
        return self.low + (self.high - self.low) * torch.sigmoid(unconstrained)

    def unconstrain(self, value: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        if math.isinf(self.low) and math.isinf(self.high):
            return value
        if math.isinf(self.high):
            return inverse_softplus(value - self.low)
        if math.isinf(self.low):
            return inverse_softplus(self.high - value)
        return torch.log(value - self.low) - torch.log(self.high - value)

    @property
    def limits(self) -> tuple[float, float]:
        return self.low, self.high

    def contains(self, value: Any) -> bool:
        return _is_number(value) and self.low <= value <= self.high and math.isfinite(value)

    def is_interior(self, value: Any) -> bool:
        return self.contains(value) and self.low < value < self.high

    def prior(self) -> Distribution:
        low, high = self.sweep or (self.low, self.high)
        if math.isinf(low) or math.isinf(high):
            raise ValueError(
                f"a search over {self.describe()} needs a finite range: give the domain a sweep = (low, high)"
            )
        return Uniform(low, high)

    def describe(self) -> str:
        left = "(-inf" if math.isinf(self.low) else f"[{self.low:g}"
        right = "inf)" if math.isinf(self.high) else f"{self.high:g}]"
        return f"a number in {left}, {right}"


@dataclass(frozen=True)
class Unit(Interval):
    """Probabilities and mixing weights in [0, 1]: the interval whose bounds everybody knows.

    >>> Unit().constrain(torch.tensor(0.0))
    tensor(0.5000)
    """

    low: float = 0.0
    high: float = 1.0


@dataclass(frozen=True)
class Positive(Domain):
    """Positive numbers whose order of magnitude is what matters (strengths, widths): tuned as a logarithm.

    ``sweep`` is the range that black-box searches cover, log-uniformly.

    >>> Positive().unconstrain(torch.tensor(1.0))
    tensor(0.)
    """

    sweep: tuple[float, float] = (1e-6, 10.0)

    def __post_init__(self) -> None:
        if not 0.0 < self.sweep[0] < self.sweep[1] < math.inf:
            raise ValueError(f"a positive domain needs 0 < low < high in sweep, got {self.sweep}")

    def constrain(self, unconstrained: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        return torch.exp(unconstrained)

    def unconstrain(self, value: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        return torch.log(value)

    def contains(self, value: Any) -> bool:
        return _is_number(value) and 0.0 <= value < math.inf

    def is_interior(self, value: Any) -> bool:
        return self.contains(value) and value > 0.0

    def prior(self) -> Distribution:
        return LogUniform(*self.sweep)

    def describe(self) -> str:
        return "a positive number"


@dataclass(frozen=True)
class Integer(Domain):
    """Whole numbers from ``low`` to ``high``, both included.

    The unconstrained coordinate moves continuously; the value is the floor of a sigmoid scaled to
    [low, high + 1), so both ends are reachable. What the network's response sees is the coordinate,
    which is why a hypergradient exists although the value jumps. ``sweep`` is the range that black-box searches
    cover; it defaults to the bounds.

    >>> Integer(0, 4).constrain(torch.tensor([-100.0, 0.0, 100.0]))
    tensor([0., 2., 4.])
    """

    low: int
    high: int
    sweep: tuple[int, int] | None = None

    def __post_init__(self) -> None:
        if not self.low < self.high:
            raise ValueError(f"an integer domain needs low < high, got low = {self.low} and high = {self.high}")

    def constrain(self, unconstrained: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        continuous = self.low + (self.high + 1 - self.low) * torch.sigmoid(unconstrained)
        return torch.floor(continuous).clamp(max=self.high)

    def unconstrain(self, value: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        fraction = (value + 0.5 - self.low) / (self.high + 1 - self.low)  # the middle of the value's cell
        return torch.logit(fraction)

    @property
    def limits(self) -> tuple[float, float]:
        return self.low, self.high

    def contains(self, value: Any) -> bool:
        return _is_number(value) and self.low <= value <= self.high and float(value).is_integer()

    def is_interior(self, value: Any) -> bool:
        return self.contains(value)

    def prior(self) -> Distribution:
        return Integers(*(self.sweep or (self.low, self.high)))

    def describe(self) -> str:
        return f"a whole number from {self.low} to {self.high}"


@dataclass(frozen=True)
class Choice(Domain):
    """One of a few named options. A choice is swept by black-box searches, never moved while training.

    >>> Choice(("fresh", "fixed")).contains("fresh")
    True
    """

    options: Sequence[Any]
    movable = False

    def __post_init__(self) -> None:
        if not self.options:
            raise ValueError("a choice needs at least one option")
        object.__setattr__(self, "options", tuple(self.options))

    def constrain(self, unconstrained: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        raise TypeError("a choice has no unconstrained coordinate: sweep it instead of tuning it")

    def unconstrain(self, value: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        raise TypeError("a choice has no unconstrained coordinate: sweep it instead of tuning it")

    def contains(self, value: Any) -> bool:
        return any(value == option and type(value) is type(option) for option in self.options)

    def is_interior(self, value: Any) -> bool:
        return False

    def prior(self) -> Distribution:
        return Choices(tuple(self.options))

    def describe(self) -> str:
        return "one of " + ", ".join(repr(option) for option in self.options)


def domain_of(distribution: Distribution) -> Domain:
    """The domain whose prior is a distribution.

    >>> domain_of(LogUniform(1e-3, 1e-1))
    Positive(sweep=(0.001, 0.1))
    """
    if isinstance(distribution, Choices):
        return Choice(distribution.options)
    if isinstance(distribution, Integers):
        return Integer(distribution.low, distribution.high)
    if isinstance(distribution, LogUniform):
        return Positive((distribution.low, distribution.high))
    if isinstance(distribution, Uniform):
        return Interval(distribution.low, distribution.high)
    raise TypeError(f"no domain has the prior {distribution!r}")
