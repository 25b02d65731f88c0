"""Sections of a study file whose settings are a dataclass: tasks, methods, trainers, budget."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, TypeVar, cast, get_args, get_type_hints

from pydantic import TypeAdapter, ValidationError
from pydantic_core import ErrorDetails

from selftune.errors import SettingError, suggestion
from selftune.fields import refusal, shown
from selftune.studies.mistakes import Mistakes, join

T = TypeVar("T")


def build_settings(cls: type[T], given: Any) -> T:
    """An instance of a dataclass from the mapping that a study file gives.

    Values are taken as they are: a text never becomes a number, 4.0 never a whole one.

    Raises:
        Mistakes: for unknown keys, wrong types, and what the dataclass itself refuses.

    >>> from selftune.methods import Budget
    >>> build_settings(Budget, {"steps": 100})
    Budget(steps=100, seconds=None, work=None, patience=None)
    >>> build_settings(Budget, {"step": 100})
    Traceback (most recent call last):
    selftune.studies.mistakes.Mistakes: step: unknown key; did you mean steps?
    """
    check_mapping(given)
    given = _gathered(cls, given)
    mistakes = list(_unknown_keys(cls, given))
    chosen: dict[str, Any] = {}
    for name, alternatives in _apart(cls).items():
        if isinstance(given.get(name), Mapping):
            try:
                chosen[name] = build_settings(_meant(alternatives, given[name]), given[name])
            except Mistakes as error:
                mistakes += error.under(name).mistakes
    if mistakes:
        raise Mistakes(mistakes)
    rest = {name: value for name, value in given.items() if name not in chosen}
    try:
        # JSON, because strict validation accepts a list for a tuple only there
        built = TypeAdapter(cls).validate_json(json.dumps(rest), strict=True)
        return cast(T, dataclasses.replace(cast(Any, built), **chosen)) if chosen else built
    except ValidationError as error:
        raise Mistakes(mistakes_of(error, given)) from error
    except SettingError as error:
        raise Mistakes([error]) from error


def check_mapping(given: Any) -> None:
    """Refuses what is not a mapping.

    Raises:
        Mistakes: one, without a key.
    """
    if not isinstance(given, Mapping):
        raise Mistakes([SettingError("", f"must be a mapping of settings, got {shown(given)}")])


def unknown_key(key: str, known: Iterable[str]) -> SettingError:
    return SettingError(key, f"unknown key; {suggestion(key.rpartition('.')[2], known)}")


def _unknown_keys(cls: Any, given: Mapping[str, Any], key: str = "") -> Iterator[SettingError]:
    types = get_type_hints(cls)
    known = [field.name for field in _fields(cls)]
    for name, value in given.items():
        if name not in known:
            reason = refusal(cls, name)
            yield unknown_key(join(key, name), known) if reason is None else SettingError(join(key, name), reason)
        elif dataclasses.is_dataclass(types[name]) and isinstance(value, Mapping) and not _gathers(types[name]):
            yield from _unknown_keys(types[name], value, join(key, name))


def _apart(cls: type[Any]) -> dict[str, list[type[Any]]]:
    """The settings that are built by themselves: one of several dataclasses, or one that gathers keys."""
    hints = get_type_hints(cls)
    found = {
        f.name: [c for c in get_args(hints[f.name]) or (hints[f.name],) if dataclasses.is_dataclass(c)]
        for f in _fields(cls)
    }
    kinds = {name: cast(list[type[Any]], given) for name, given in found.items()}
    return {name: given for name, given in kinds.items() if len(given) > 1 or any(map(_gathers, given))}


def _gathers(cls: Any) -> str | None:
    """The field that takes all keys that are no fields, of a dataclass that has one."""
    field: str | None = getattr(cls, "GATHERS", None)
    return field


def _gathered(cls: Any, given: Mapping[str, Any]) -> Mapping[str, Any]:
    """What is given, with the keys that a field gathers under that field."""
    field, names = _gathers(cls), [field.name for field in _fields(cls)]
    if field is None or field in given:
        return given
    own = {key: value for key, value in given.items() if key in names}
    return {**own, field: {key: value for key, value in given.items() if key not in names}}


def _meant(alternatives: list[type[Any]], given: Mapping[str, Any]) -> type[Any]:
    """The dataclass that a mapping is meant for: the one that knows most of its keys.

    Pydantic would take one that ignores what it does not know, and where one refuses a value, the next.

    Raises:
        Mistakes: if no key belongs to any.
    """
    known = {cls: [field.name for field in _fields(cls)] for cls in alternatives}
    best = max(alternatives, key=lambda cls: sum(key in known[cls] for key in given))
    if len(alternatives) == 1 or any(key in known[best] for key in given):
        return best
    names = [name for own in known.values() for name in own]
    if given:
        raise Mistakes(unknown_key(key, names) for key in given)
    words = " or ".join(f"{cls.__name__} ({', '.join(known[cls])})" for cls in alternatives)
    raise Mistakes([SettingError("", f"is empty; give the settings of {words}")])


def _fields(cls: type[Any]) -> list[dataclasses.Field[Any]]:
    return [field for field in dataclasses.fields(cls) if field.init]


# Sentences -------------------------------------------------------------------------------------------

_WORDS = {
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "string": "a text",
    "tuple": "a list",
    "list": "a list",
    "dict": "a mapping",
    "dataclass": "a mapping of settings",
    "none": "nothing",
}


def mistakes_of(error: ValidationError, given: Any) -> list[SettingError]:
    """Pydantic's errors as plain sentences, one per value, alternatives of a value joined by "or"."""
    found: list[SettingError] = []
    wanted: dict[str, tuple[list[str], ErrorDetails]] = {}
    for details in error.errors():
        key = _key(details["loc"], given)
        cause = details.get("ctx", {}).get("error")
        if isinstance(cause, Mistakes):
            found += cause.under(key).mistakes
        elif isinstance(cause, SettingError):
            found.append(SettingError(join(key, cause.key), cause.message))
        elif details["type"] == "missing":
            found.append(SettingError(key, "is missing; add it"))
        elif (words := _wanted(details)) is not None:
            wanted.setdefault(key, ([], details))[0].append(words)
        else:
            text = details["msg"].removeprefix("Value error, ")
            found.append(SettingError(key, text[:1].lower() + text[1:]))
    for key, (alternatives, details) in wanted.items():
        given_value = details["input"]
        message = f"must be {' or '.join(dict.fromkeys(alternatives))}, got {shown(given_value)}"
        options = details.get("ctx", {}).get("expected")
        if options and isinstance(given_value, str):
            names = [option.strip("'") for option in options.replace(" or ", ", ").split(", ")]
            hint = suggestion(given_value, names)
            message += f"; {hint}" if hint.startswith("did") else ""
        found.append(SettingError(key, message))
    return found


def _wanted(details: ErrorDetails) -> str | None:
    if details["type"] == "literal_error":
        return str(details["ctx"]["expected"])
    return _WORDS.get(details["type"].partition("_")[0])


def _key(location: tuple[int | str, ...], given: Any) -> str:
    """The location as a key path, without the names that pydantic adds for the branches of a union."""
    path = []
    for index, part in enumerate(location):
        is_there = (isinstance(given, Mapping) and part in given) or (
            isinstance(given, list) and isinstance(part, int) and part < len(given)
        )
        if not is_there and (not isinstance(given, Mapping) or index < len(location) - 1):
            break
        path.append(str(part))
        given = given[part] if is_there else None
    return ".".join(path)
