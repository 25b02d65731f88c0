"""How a study's task is trained: ``objective.optimization``, which every task that trains a network takes."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

from selftune.errors import SettingError
from selftune.hyperparameters import Hyperparameter
from selftune.lower_level.example_weights import EXAMPLE_WEIGHTS
from selftune.lower_level.objective import NetworkObjective
from selftune.lower_level.optimization import Optimization
from selftune.studies.hyperparameter_values import parse_value
from selftune.studies.mistakes import Mistakes, as_mistakes, join
from selftune.studies.settings import build_settings, check_mapping, unknown_key

KEY = "optimization"
_OF_DATA = "batch_size"  # the data are checked against it when the task is made


def build_task(task: Callable[..., NetworkObjective], given: Mapping[str, Any]) -> NetworkObjective:
    """A task from the settings of a study file, trained as its key ``optimization`` says.

    What that leaves out is as the task has it; but another optimizer has a momentum of its own.

    Raises:
        Mistakes: as ``build_settings``, and for settings of ``Optimization`` that are unknown, wrong, or given
            twice.

    >>> from selftune.lower_level.objective import tasks
    >>> task = build_task(tasks["digits"], {"optimization": {"optimizer": "rmsprop", "learning_rate": 0.001}})
    >>> task.optimization.optimizer, task.optimization.batch_size
    ('rmsprop', 64)
    """
    declared = {h.name: h for h in (*task.declared, EXAMPLE_WEIGHTS)}  # type: ignore[attr-defined]
    values = _values(declared, given)
    own = {key: value for key, value in given.items() if key != KEY and key not in values}
    chosen = given.get(KEY)
    settings = {} if chosen is None else chosen
    try:
        check_mapping(settings)
        known = [field.name for field in dataclasses.fields(Optimization)]
        mistakes = [unknown_key(key, known) for key in settings if key not in known]
        twice = "is given twice, here and beside optimization; leave one out"
        mistakes += [SettingError(key, twice) for key in settings if key in own and key in known]
        if mistakes:
            raise Mistakes(mistakes)
    except Mistakes as error:
        raise error.under(KEY) from error
    names = [field.name for field in dataclasses.fields(task)]  # type: ignore[arg-type]
    if _OF_DATA in settings and _OF_DATA in names:
        own[_OF_DATA] = settings[_OF_DATA]
    objective = build_settings(task, own)  # type: ignore[arg-type]
    if settings:
        changes = {"momentum": None, **settings} if "optimizer" in settings else settings
        try:
            objective.optimization = dataclasses.replace(objective.optimization, **changes)
        except SettingError as error:
            raise as_mistakes(error).under(KEY) from error
    return objective.with_values(**values) if values else objective


def _values(declared: Mapping[str, Hyperparameter], given: Mapping[str, Any]) -> dict[str, Any]:
    """What a study file says of the task's own hyperparameters."""
    values, mistakes = {}, []
    for name in declared.keys() & given.keys():
        try:
            values[name] = parse_value(declared[name], given[name])
        except SettingError as error:
            mistakes.append(SettingError(join(name, error.key), error.message))
    if mistakes:
        raise Mistakes(mistakes)
    return values
