"""``over`` and ``space`` of a section ``sweep``: the keys that are swept, and what each is drawn from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from selftune.search_spaces import space as named_space

from selftune.errors import SettingError, suggestion
from selftune.fields import shown
from selftune.hyperparameters import Domain, Hyperparameter, Tune
from selftune.hyperparameters.distribution import Choices, Distribution, distribution_of
from selftune.regularization.regularizer import regularizers
from selftune.search import SearchSpace, Swept
from selftune.studies.hyperparameter_values import parse_value
from selftune.studies.mistakes import Mistakes, join
from selftune.sweeps.placed import START, at

OWN = "domain"
"""Stands for the prior of a hyperparameter's own domain."""
_FIXED = ("study", "trainers", "budget", "metric", "sweep", "diagnostics", "horizon")
"""Sections that are the same for all trials."""


def search_space(over: Any, space: Any, content: Mapping[str, Any]) -> SearchSpace:
    """The search space that a section ``sweep`` describes.

    Args:
        over: distributions by key.
        space: name of a search space, of which those keys are taken whose regularizers are in the study.
        content: of the study file, without the section.

    Raises:
        Mistakes: keys are those below ``sweep``.
    """
    if over is not None and (not isinstance(over, Mapping) or not over):
        raise Mistakes([SettingError("over", f"must map keys of the study to distributions, got {shown(over)}")])
    given = {**(_named(space, content) if space is not None else {}), **(over or {})}
    if not given:
        raise Mistakes([SettingError("over", "is missing; say which keys are swept, or name a space")])
    swept: list[Swept] = []
    mistakes: list[SettingError] = []
    for key, entry in given.items():
        try:
            swept.append(_swept(str(key), entry, content))
        except SettingError as error:
            mistakes.append(SettingError(join("over", str(key), error.key), error.message))
    if not mistakes:
        mistakes += _conditions(swept)
    if mistakes:
        raise Mistakes(mistakes)
    return SearchSpace(tuple(_ordered(swept)))


def _named(name: Any, content: Mapping[str, Any]) -> dict[str, Any]:
    if not isinstance(name, str):
        raise Mistakes([SettingError("space", f"must be the name of a search space, got {shown(name)}")])
    try:
        known = named_space(name)
    except SettingError as error:
        raise Mistakes([SettingError("space", error.message)]) from error
    there = at(content, "regularizers")
    names = set(there) if isinstance(there, Mapping) else set()
    found = {key: entry for key, entry in known.items() if key.split(".")[1] in names}
    if not found:
        raise Mistakes([SettingError("space", f"{name} has no key of a regularizer that is in this study")])
    return found


def _swept(key: str, given: Any, content: Mapping[str, Any]) -> Swept:
    head = key.partition(".")[0]
    if head in _FIXED:
        raise SettingError("", f"cannot be swept: {head} is the same for all trials")
    if head == "regularizers":
        _check_not_tuned(key, content)
    declared = declared_at(key)
    inherited = key.endswith(START)  # where tuning has gone on from it, another start would mean nothing
    if given == OWN:
        return Swept(key, _prior(key, declared, content), inherited=inherited)
    when: dict[str, tuple[Any, ...]] = {}
    if isinstance(given, Mapping) and "when" in given:
        when = _when(given["when"])
        given = {name: value for name, value in given.items() if name != "when"}
        if given == {OWN: None}:
            return Swept(key, _prior(key, declared, content), when, inherited)
    distribution = distribution_of(given)
    if declared is not None:
        try:
            _domain(key, declared, content).check_allows(distribution)
        except ValueError as error:
            raise SettingError("", str(error)) from error
    return Swept(key, distribution, when, inherited)


def _check_not_tuned(key: str, content: Mapping[str, Any]) -> None:
    """Refuses what is swept and tuned at once, and a start value of what is not tuned."""
    name = key.removesuffix(START)
    there = at(content, name)
    if is_tuned(there) and name == key:
        raise SettingError(
            "",
            "is swept and tuned at once: the study tunes it online; give it a fixed value there, or sweep its"
            f" start value, {key}{START}",
        )
    if name != key and there is not None and not is_tuned(there):
        raise SettingError(
            "", f"is the start value of what the study fixes to {shown(there)}; sweep {name}, or tune it"
        )


def is_tuned(given: Any) -> bool:
    """Whether this is how a study file writes a hyperparameter that is tuned."""
    return bool(given == "tune") or (isinstance(given, Mapping) and ("start" in given or "domain" in given))


def declared_at(key: str) -> Hyperparameter | None:
    """The hyperparameter of a regularizer that a key is the value or the start value of, if it is one."""
    path = key.removesuffix(START).split(".")
    if len(path) != 3 or path[0] != "regularizers" or path[1] not in regularizers.names():
        return None
    declared = regularizers[path[1]].hyperparameters
    return next((one for one in declared if one.name == path[2]), None)


def _domain(key: str, declared: Hyperparameter, content: Mapping[str, Any]) -> Domain:
    """The hyperparameter's own domain, or the narrower one that the study tunes it in."""
    if key.endswith(START):
        there = at(content, key.removesuffix(START))
        if isinstance(there, Mapping):
            value = parse_value(declared, {name: part for name, part in there.items() if name == "domain"} or 0)
            if isinstance(value, Tune) and value.domain is not None:
                return value.domain
    return declared.domain


def _prior(key: str, declared: Hyperparameter | None, content: Mapping[str, Any]) -> Distribution:
    if declared is None:
        raise SettingError("", "is no hyperparameter of a regularizer, so it has no domain; give a distribution")
    try:
        return _domain(key, declared, content).prior()
    except ValueError as error:
        raise SettingError("", str(error)) from error


# Conditions ------------------------------------------------------------------------------------------


def _when(given: Any) -> dict[str, tuple[Any, ...]]:
    if not isinstance(given, Mapping) or not given:
        raise SettingError("when", f"must map swept keys to a value or a list of values, got {shown(given)}")
    for key, value in given.items():
        if value == []:
            raise SettingError(
                f"when.{key}", "is an empty list, so that the key would never be there; name a value"
            )
    return {str(key): tuple(value) if isinstance(value, list) else (value,) for key, value in given.items()}


def _conditions(swept: list[Swept]) -> Iterator[SettingError]:
    known = {one.key: one for one in swept}
    for one in swept:
        for key, options in one.when.items():
            where = f"over.{one.key}.when.{key}"
            if key not in known:
                yield SettingError(where, f"is not swept; {suggestion(key, known)}")
                continue
            distribution = known[key].distribution
            if not isinstance(distribution, Choices):
                yield SettingError(where, "must be a key whose distribution is a choice")
                continue
            for option in options:
                if option not in distribution.options:
                    yield SettingError(where, f"is never {shown(option)}: it is {distribution.describe()}")
    if any(_depends_on_itself(one, known) for one in swept):
        keys = ", ".join(one.key for one in swept if _depends_on_itself(one, known))
        yield SettingError("over", f"conditions go in a circle: {keys}")


def _depends_on_itself(one: Swept, known: Mapping[str, Swept]) -> bool:
    seen: set[str] = set()
    waiting = list(one.when)
    while waiting:
        key = waiting.pop()
        if key == one.key:
            return True
        if key in known and key not in seen:
            seen.add(key)
            waiting += known[key].when
    return False


def _ordered(swept: list[Swept]) -> Iterator[Swept]:
    """In the order given, but each after those that its conditions name."""
    waiting, done = list(swept), set[str]()
    while waiting:
        one = next(one for one in waiting if done.issuperset(one.when))
        waiting.remove(one)
        done.add(one.key)
        yield one
