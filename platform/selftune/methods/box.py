"""The box that hyperparameters stay in: limits that somebody sets, and where the scales of their domains end."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

import torch

from selftune.errors import SettingError, suggestion
from selftune.hyperparameters import Positive, Space
from selftune.hyperparameters.domain import Domain
from selftune.shapes import Float, Tensor

Limits = Mapping[str, tuple[float | None, float | None]]
"""(low, high) by the name of a hyperparameter, with or without its part; None where there is no limit."""

_FLAT = 30.0  # where exp and sigmoid differ from their ends by 1e-13: rounding hides what lies beyond


def check_limits(limits: Limits | None) -> None:
    """Refuses limits that are no pairs of numbers in order.

    Raises:
        SettingError: naming the hyperparameter.

    >>> check_limits({"ridge.strength": (1e-6, None)})
    """
    for name, pair in (limits or {}).items():
        sides = tuple(pair) if isinstance(pair, tuple | list) else ()
        numbers = [side for side in sides if side is not None]
        real = all(isinstance(side, int | float) and not isinstance(side, bool) for side in numbers)
        if len(sides) != 2 or not real or any(map(math.isnan, numbers)):
            raise SettingError(
                f"limits.{name}", f"must be two numbers, low and high, or null for none, got {pair!r}"
            )
        if len(numbers) == 2 and not numbers[0] < numbers[1]:
            raise SettingError(f"limits.{name}", f"needs low < high, got {numbers[0]:g} and {numbers[1]:g}")


def box_mistakes(space: Space, bound: float | None, limits: Limits | None) -> Iterator[SettingError]:
    """Limits of what there is not or is not allowed, and starts outside of the box."""
    known = list(dict.fromkeys([*(h.name for h in space.tuned), *space.names]))
    for name, sides in (limits or {}).items():
        if name not in known:
            yield SettingError(f"method.limits.{name}", f"is not tuned; {suggestion(name, known)}")
            continue
        domain = next(h.domain for h in space.tuned if name == h.name or name in h.names)
        for side in sides:
            if side is not None and not domain.contains(side):
                yield SettingError(
                    f"method.limits.{name}", f"must lie within the domain, {domain.describe()}, got {side:g}"
                )
                return
    if any(name not in known for name in limits or {}):
        return
    low, high = box_of(space, bound, limits)
    start = space.start_as(torch.float64)
    outside = ((start < low) | (start > high)).nonzero().flatten().tolist()
    if outside:
        first = outside[0]
        values = [float(space.constrain(v)[first]) for v in (low, high, start)]
        key = "method.limits" if limits else "method.bound"
        yield SettingError(
            key,
            f"leave {space.names[first]} from {values[0]:.6g} to {values[1]:.6g}, but it starts at"
            f" {values[2]:.6g}; start inside",
        )


def box_of(
    space: Space, bound: float | None = None, limits: Limits | None = None
) -> tuple[Float[Tensor, "n"], Float[Tensor, "n"]]:
    """(low, high) of every unconstrained coordinate.

    A limit of a part goes before that of its hyperparameter, and both before the rest. Without ``bound`` a
    coordinate is limited only where its domain's scale becomes flat, in the direction where it does: a logarithm
    goes 30 beyond its start and beyond 1, an interval to 30 on its closed sides, a real number anywhere.

    Args:
        bound: largest value in size; None for the domains' own ends.
        limits: of values, not of coordinates.

    >>> from selftune.hyperparameters import Hyperparameter, Interval
    >>> space = Space([Hyperparameter("strength", Positive(), 0.1, tuned=True),
    ...                Hyperparameter("shift", Interval(), 0.0, tuned=True)])
    >>> box_of(space, limits={"strength": (None, 1.0)})
    (tensor([-32.3026,     -inf], dtype=torch.float64), tensor([0., inf], dtype=torch.float64))
    """
    low: list[float] = []
    high: list[float] = []
    start = space.start_as(torch.float64).tolist()
    for h in space.tuned:
        for name in h.names:
            at = start[len(low)]
            sides = (-bound, bound) if bound is not None else _ends(h.domain, at)
            given = limits or {}
            pair = given.get(name, given.get(h.name, (None, None)))
            ends = [_coordinate(h.domain, value) for value in pair]
            if math.isinf(h.domain.limits[0]) and math.isfinite(
                h.domain.limits[1]
            ):  # its coordinate runs backwards
                ends.reverse()
            low.append(sides[0] if ends[0] is None else ends[0])
            high.append(sides[1] if ends[1] is None else ends[1])
    return torch.tensor(low, dtype=torch.float64), torch.tensor(high, dtype=torch.float64)


def _ends(domain: Domain, start: float) -> tuple[float, float]:
    below, above = min(start, 0.0) - _FLAT, max(start, 0.0) + _FLAT
    if isinstance(domain, Positive):
        return below, above
    closed = [math.isfinite(side) for side in domain.limits]
    if not any(closed):
        return -math.inf, math.inf
    return below, above if all(closed) else math.inf


def _coordinate(domain: Domain, value: float | None) -> float | None:
    """None for a limit that is the domain's own end."""
    if value is None:
        return None
    at = float(domain.unconstrain(torch.tensor(float(value), dtype=torch.float64)))
    return at if math.isfinite(at) else None
