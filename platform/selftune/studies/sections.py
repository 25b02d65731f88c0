"""Sections of a study file that name something registered: the objects that they stand for."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from selftune.errors import SettingError, suggestion
from selftune.fields import shown
from selftune.lower_level.objective import tasks
from selftune.lower_level.smooth_objective import NotStronglyConvex
from selftune.registries.diagnostics import Measurement
from selftune.registries.registry import UnknownName
from selftune.regularization.regularizer import Regularizer, differs_by_example, regularizers
from selftune.studies.hyperparameter_values import parse_value
from selftune.studies.mistakes import ENOUGH, Mistakes, as_mistakes, join
from selftune.studies.settings import build_settings, check_mapping, unknown_key
from selftune.studies.strategies import strategy_of_task
from selftune.training.method_record import methods


def objective_of(given: Any) -> Any:
    """The section ``objective``: a task by its name, with its settings."""
    name, settings = _named(given, "task", tasks.names())
    task: Any = tasks[name]
    try:
        return strategy_of_task(task).built(task, settings)
    except NotStronglyConvex as error:
        raise SettingError("", str(error)) from error
    except RuntimeError as error:  # what torch raises for sizes that nothing can have
        raise SettingError("", f"cannot be made here: {str(error).partition(chr(10))[0]}") from error


def regularizers_of(given: Any) -> tuple[Regularizer, ...]:
    """The section ``regularizers``: their settings by name; all that is wrong is said at once."""
    check_mapping(given)
    built: list[Regularizer] = []
    mistakes: list[SettingError] = []
    for name, settings in given.items():
        try:
            built.append(_regularizer(name, settings))
        except (SettingError, UnknownName, Mistakes) as error:
            mistakes += as_mistakes(error).under(name).mistakes
            if len(mistakes) >= ENOUGH:
                break
    if mistakes:
        raise Mistakes(mistakes)
    return tuple(built)


def _regularizer(name: str, given: Any) -> Regularizer:
    cls = regularizers[name]
    given = {} if given is None else given
    check_mapping(given)
    settings: dict[str, Any] = {}
    known = [h.name for h in cls.hyperparameters] + (["parts"] if cls.per_layer or differs_by_example(cls) else [])
    for key, value in given.items():
        if key not in known:
            raise unknown_key(key, known)
        if key == "parts":
            settings[key] = value
            continue
        declared = next(h for h in cls.hyperparameters if h.name == key)
        try:
            settings[key] = parse_value(declared, value)
        except SettingError as error:
            raise SettingError(join(key, error.key), error.message) from error
    return cls(**settings)


def method_of(given: Any, objective: object) -> Any:
    """The section ``method``: its settings, of the form that works on the objective."""
    name, settings = _named(given, "name", methods.names())
    record = methods[name]
    form = record.form_for(objective) or record.forms[0]
    return build_settings(form.settings, settings)


def diagnostics_of(given: Any) -> tuple[Measurement, ...]:
    """The section ``diagnostics``: by name, how often each is measured, and its settings."""
    check_mapping(given)
    built: list[Measurement] = []
    mistakes: list[SettingError] = []
    for name, settings in given.items():
        try:
            settings = {} if settings is None else settings
            check_mapping(settings)
            every = settings.get("every", 1)
            if not isinstance(every, int) or isinstance(every, bool):
                raise SettingError("every", f"must be a whole number, got {shown(every)}")
            built.append(Measurement(name, every, {k: v for k, v in settings.items() if k != "every"}))
        except (SettingError, UnknownName, Mistakes) as error:
            mistakes += as_mistakes(error).under(name).mistakes
            if len(mistakes) >= ENOUGH:
                break
    if mistakes:
        raise Mistakes(mistakes)
    return tuple(built)


def _named(given: Any, key: str, known: Iterable[str]) -> tuple[str, dict[str, Any]]:
    check_mapping(given)
    settings = dict(given)
    if key not in settings:
        raise SettingError(key, f"is missing; name one of {', '.join(sorted(known))}")
    name = settings.pop(key)
    if not isinstance(name, str):
        raise SettingError(key, f"must be a name, got {shown(name)}; name one of {', '.join(sorted(known))}")
    if name not in known:
        raise SettingError(key, f"unknown name {shown(name)}; {suggestion(str(name), known)}")
    return name, settings
