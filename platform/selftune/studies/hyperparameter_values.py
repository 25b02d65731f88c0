"""How a study file writes the value of a hyperparameter: fixed, or tuned from a start in a domain."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from selftune.errors import SettingError, suggestion
from selftune.fields import shown
from selftune.hyperparameters import AUTO, Domain, Hyperparameter, Integer, Interval, Positive, Tune, Unit

_KEYS = ("start", "domain")
_DOMAINS = {
    "unit": "unit",
    "positive": "positive",
    "interval": "interval: [low, high]",
    "integer": "integer: [low, high]",
}


def parse_value(declared: Hyperparameter, given: Any) -> Any:
    """The value as ``Regularizer`` takes it: a number, a mapping from part to number, a choice, or ``Tune``.

    ``tune``, or a mapping with ``start`` or ``domain``, is tuned; anything else is fixed. ``auto`` in the place of
    a number stands for what the hyperparameter's rule gives.

    Raises:
        SettingError: its key starts below the hyperparameter's own.

    >>> rate = Hyperparameter("rate", Unit(), 0.5)
    >>> parse_value(rate, 0.1)
    0.1
    >>> parse_value(rate, {"start": 0.1, "domain": {"interval": [0, 0.5]}})
    Tune(start=0.1, domain=Interval(low=0.0, high=0.5, sweep=None))
    """
    if given == "tune" and declared.domain.movable:
        return Tune()
    if given is None:
        raise SettingError("", "has no value; give a number, or 'tune'")
    if not isinstance(given, Mapping) or not declared.domain.movable:
        return _fixed(declared, given)
    if not any(key in given for key in _KEYS):
        if any(isinstance(value, Mapping | str) for value in given.values()):  # {strat: ...}, not parts
            key = next(key for key, value in given.items() if isinstance(value, Mapping | str))
            raise SettingError(key, "must be a number for this part, or the key 'start' or 'domain'")
        return dict(given)
    for key in given:
        if key not in _KEYS:
            raise SettingError(key, f"unknown key; {suggestion(key, _KEYS)}")
    domain = _narrowed(declared, given["domain"]) if "domain" in given else None
    start = given.get("start")
    if "start" in given:
        try:
            start = dict(start) if isinstance(start, Mapping) else _fixed(declared, start)
        except SettingError as error:
            raise SettingError("start", error.message) from error
    return Tune(start, domain)


def _fixed(declared: Hyperparameter, given: Any) -> Any:
    if declared.domain.movable and given == AUTO:
        return given
    if declared.domain.movable and not isinstance(given, int | float):
        raise SettingError(
            "",
            f"must be {declared.domain.describe()}, or a mapping from part to number, or be tuned with"
            f" {{start: ...}}, got {shown(given)}",
        )
    return given


def _narrowed(declared: Hyperparameter, given: Any) -> Domain:
    """The domain a study gives, if it lies within the hyperparameter's own."""
    domain = _domain(given)
    try:
        domain.check_narrows(declared.domain)
    except ValueError as error:
        raise SettingError("domain", str(error)) from error
    return domain


def _domain(given: Any) -> Domain:
    if isinstance(given, str):
        given = {given: None}
    known = "write one of: " + "; ".join(_DOMAINS.values())
    if not isinstance(given, Mapping) or len(given) != 1:
        raise SettingError("domain", f"must name one domain, got {shown(given)}; {known}")
    ((name, bounds),) = given.items()
    if name not in _DOMAINS:
        raise SettingError("domain", f"unknown domain {name!r}; {suggestion(str(name), _DOMAINS)}")
    if name in ("unit", "positive"):
        if bounds is not None:
            raise SettingError(f"domain.{name}", f"takes no settings, got {shown(bounds)}; {known}")
        return Unit() if name == "unit" else Positive()
    kind = int if name == "integer" else int | float
    if (
        not isinstance(bounds, list)
        or len(bounds) != 2
        or any(isinstance(bound, bool) or not isinstance(bound, kind) for bound in bounds)
    ):
        numbers = "whole numbers" if name == "integer" else "numbers"
        raise SettingError(f"domain.{name}", f"must be two {numbers} [low, high], got {shown(bounds)}")
    try:
        return Integer(*bounds) if name == "integer" else Interval(float(bounds[0]), float(bounds[1]))
    except ValueError as error:
        raise SettingError(f"domain.{name}", str(error)) from error
