"""Settings as dataclasses: whether their values are of their fields' types, and how they are made by name."""

from __future__ import annotations

import math
import numbers
import types
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import fields, is_dataclass
from functools import cache
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from selftune.errors import SettingError, suggestion

T = TypeVar("T")

LARGEST = 3.4028234663852886e38  # in single precision, what networks compute in
_LARGEST_WHOLE = 2**63
_WORDS: dict[Any, str] = {
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    str: "a text",
    types.NoneType: "nothing",
    tuple: "a tuple",
    Sequence: "a list",
    Mapping: "a mapping",
}


def check_fields(settings: Any) -> None:
    """Refuses values of a dataclass that are not of their fields' types, for its ``__post_init__``.

    Numbers may be numpy's, a whole one may stand for a number, but nothing else is converted: not a text, not
    4.0 for a whole number. Not a number (nan) is no value of any setting.

    Raises:
        SettingError: with the name of the field.

    >>> from dataclasses import dataclass
    >>> @dataclass
    ... class Settings:
    ...     steps: int | None = None
    ...     def __post_init__(self):
    ...         check_fields(self)
    >>> Settings(10.0)
    Traceback (most recent call last):
    selftune.errors.SettingError: steps: must be a whole number or nothing, got 10.0
    """
    cls: Any = type(settings)
    for name, annotation in _annotations(cls).items():
        value = getattr(settings, name)
        if not _fits(value, annotation):
            words = " or ".join(dict.fromkeys(_described(annotation)))
            hint = _hint(value, annotation)
            raise SettingError(name, f"must be {words}, got {shown(value)}{hint}")
        if isinstance(value, float) and LARGEST < abs(value) < math.inf:
            raise SettingError(name, too_large(value))


def too_large(value: float) -> str:
    """Why a number is refused that is infinite to a network."""
    return f"must be at most {LARGEST:.3g} in size, the largest number of single precision, got {value:g}"


def settings_of(kind: type[T], given: Mapping[str, Any]) -> T:
    """The settings that keyword arguments make.

    Args:
        kind: a dataclass of settings.

    Raises:
        SettingError: if there is no such setting, or a value is out of its range.

    >>> from selftune.methods import SelfTuningSettings
    >>> settings_of(SelfTuningSettings, {"learning_rate": 0.5}).learning_rate
    0.5
    """
    known = [field.name for field in fields(kind) if field.init]  # type: ignore[arg-type]
    for key in given:
        if key not in known:
            raise SettingError(key, refusal(kind, key) or f"unknown setting; {suggestion(key, known)}")
    return kind(**given)


def refusal(kind: type[Any], key: str) -> str | None:
    """Why settings of this kind do not have a key that those of others have, where they say so in ``REFUSED``."""
    reasons: Mapping[str, str] = getattr(kind, "REFUSED", {})
    return reasons.get(key)


def shown(value: object) -> str:
    """A value as a study file would write it, cut to a readable length.

    >>> shown(True), shown(None), shown("a"), shown(0.5)
    ('true', 'nothing', "'a'", '0.5')
    """
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return str(value).lower()
    shape = getattr(value, "shape", None)
    if isinstance(shape, tuple):  # of a tensor or an array
        return f"a {type(value).__name__} of shape {tuple(shape)}"
    text = " ".join(repr(value).split())
    return text if len(text) <= 60 else text[:57] + "..."


@cache
def _annotations(cls: Hashable) -> dict[str, Any]:
    hints = get_type_hints(cls)
    return {field.name: hints[field.name] for field in fields(cls) if field.init}  # type: ignore[arg-type]


def _fits(value: Any, annotation: Any) -> bool:
    kind, arguments = get_origin(annotation), get_args(annotation)
    if annotation is Any or isinstance(annotation, TypeVar):
        return True
    if kind in (Union, types.UnionType):
        return any(_fits(value, one) for one in arguments)
    if kind is Literal:
        return isinstance(value, str | int) and value in arguments
    if annotation is int:
        whole = isinstance(value, numbers.Integral) and not isinstance(value, bool)
        return whole and -_LARGEST_WHOLE < value < _LARGEST_WHOLE
    if annotation is float:
        return isinstance(value, numbers.Real) and not isinstance(value, bool) and not _is_nan(value)
    if kind is tuple and arguments[1:] == (Ellipsis,):
        return isinstance(value, tuple) and all(_fits(one, arguments[0]) for one in value)
    if isinstance(kind, type) and issubclass(kind, Sequence):
        listed = isinstance(value, Sequence) and not isinstance(value, str)
        return listed and all(_fits(one, arguments[0]) for one in value)
    if kind is Callable or annotation is Callable:
        return callable(value)
    plain = kind or annotation
    return isinstance(value, plain) if isinstance(plain, type) else True


def _is_nan(value: Any) -> bool:
    return bool(value != value)


def _described(annotation: Any) -> Iterator[str]:
    kind, arguments = get_origin(annotation), get_args(annotation)
    if kind in (Union, types.UnionType):
        for one in arguments:
            yield from _described(one)
    elif kind is Literal:
        yield from (repr(option) for option in arguments)
    elif is_dataclass(annotation):
        yield f"{getattr(annotation, '__name__', annotation)}(...)"
    elif isinstance(kind, type) and issubclass(kind, Sequence) and kind is not tuple:
        yield f"a list of {getattr(arguments[0], '__name__', arguments[0])}"
    else:
        yield _WORDS.get(kind or annotation, f"a {getattr(annotation, '__name__', annotation)}")


def _hint(value: Any, annotation: Any) -> str:
    if isinstance(value, int) and abs(value) >= _LARGEST_WHOLE:
        return "; whole numbers are smaller than 2**63"
    options = [option for option in _options(annotation) if isinstance(option, str)]
    if not (isinstance(value, str) and options):
        return ""
    hint = suggestion(value, options)
    return f"; {hint}" if hint.startswith("did") else ""


def _options(annotation: Any) -> Iterator[Any]:
    if get_origin(annotation) is Literal:
        yield from get_args(annotation)
    elif get_origin(annotation) in (Union, types.UnionType):
        for one in get_args(annotation):
            yield from _options(one)
