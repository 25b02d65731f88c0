"""The section ``sweep`` of a study file, as the settings of a search."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from selftune.errors import SettingError, suggestion
from selftune.fields import shown
from selftune.lower_level.better import mode_of
from selftune.lower_level.objective import NetworkObjective
from selftune.search import SearchSettings, SearchSpace
from selftune.search.misfits import misfits
from selftune.search.searchers import SEARCHERS
from selftune.search.trial_schedulers import TRIAL_SCHEDULERS, PbtSettings, PopulationSettings
from selftune.studies.mistakes import Mistakes, as_mistakes, join
from selftune.studies.settings import build_settings, check_mapping, unknown_key
from selftune.studies.strategies.network import metrics_of
from selftune.studies.study import Study
from selftune.sweeps.changeable import is_changeable

_REPORTS = 20  # of a trial, where nothing else is said
KEYS = (
    "over",
    "space",
    "searcher",
    "scheduler",
    "trials",
    "concurrent",
    "metric",
    "mode",
    "budget",
    "report_every",
    "first",
)


@dataclass(frozen=True)
class SearchBudget:
    """How long a search goes on, over all of its trials: training steps of all networks, or seconds."""

    steps: int | None = None
    seconds: float | None = None


def search_settings(given: Mapping[str, Any], study: Study, space: SearchSpace) -> SearchSettings:
    """The settings of the search.

    Args:
        given: the section ``sweep``.
        study: a sample, for what all trials have in common.
        space: what is swept.

    Raises:
        Mistakes: keys are those below ``sweep``.
    """
    steps = study.budget.steps
    assert steps is not None
    mistakes: list[SettingError] = []
    made: dict[str, Any] = {}
    for key, kinds in (("searcher", SEARCHERS), ("scheduler", TRIAL_SCHEDULERS)):
        if key in given:
            try:
                made[key] = _named(given[key], kinds)
            except (Mistakes, SettingError) as error:
                mistakes += as_mistakes(error).under(key).mistakes
    if "budget" in given:
        try:
            budget = build_settings(SearchBudget, given["budget"])
            if budget == SearchBudget():
                raise Mistakes([SettingError("", "says nothing; give steps, or seconds, or leave it out")])
            made |= {"steps": budget.steps, "seconds": budget.seconds}
        except Mistakes as error:
            mistakes += error.under("budget").mistakes
    made |= {key: given[key] for key in ("trials", "concurrent") if key in given}
    made["report_every"] = given.get("report_every", max(1, steps // _REPORTS))
    metric = made["metric"] = given.get("metric", study.metric)
    made["mode"] = given.get("mode", study.mode if metric == study.metric else mode_of(str(metric)))
    try:
        made["first"] = _first(given.get("first", []), space)
    except SettingError as error:
        mistakes.append(error)
    if not mistakes:
        try:
            settings = SearchSettings(**made, seed=study.seed)
        except SettingError as error:
            budget_key = error.key in ("steps", "seconds")
            mistakes.append(SettingError(join("budget", error.key) if budget_key else error.key, error.message))
        else:
            mistakes += _misfits(settings, study, space)
    if mistakes:
        raise Mistakes(mistakes)
    return settings


def check_keys(given: Any) -> None:
    """Refuses a section that is no mapping, or has unknown keys.

    Raises:
        Mistakes: keys are those below ``sweep``.
    """
    check_mapping(given)
    unknown = [unknown_key(str(key), KEYS) for key in given if key not in KEYS]
    if unknown:
        raise Mistakes(unknown)


def _named(given: Any, kinds: Mapping[str, type[Any]]) -> Any:
    """Settings by name: the name alone, or a mapping with ``name`` and settings."""
    if isinstance(given, str):
        given = {"name": given}
    if not isinstance(given, Mapping):
        raise SettingError(
            "", f"must be a name ({', '.join(kinds)}), or a mapping of a name and settings, got {shown(given)}"
        )
    name = given.get("name")
    if not isinstance(name, str):
        raise SettingError("name", f"must be one of {', '.join(kinds)}, got {shown(name)}")
    if name not in kinds:
        raise SettingError("name" if len(given) > 1 else "", f"unknown name {name!r}; {suggestion(name, kinds)}")
    return build_settings(kinds[name], {key: value for key, value in given.items() if key != "name"})


def _first(given: Any, space: SearchSpace) -> tuple[Mapping[str, Any], ...]:
    if not isinstance(given, list) or not all(isinstance(values, Mapping) for values in given):
        raise SettingError("first", f"must be a list of mappings from swept keys to values, got {shown(given)}")
    for index, values in enumerate(given):
        for key, value in values.items():
            if key not in space.keys:
                raise SettingError(f"first.{index}.{key}", f"is not swept; {suggestion(str(key), space.keys)}")
            if not space[key].distribution.contains(value):
                wanted = space[key].distribution.describe()
                raise SettingError(f"first.{index}.{key}", f"must be {wanted}, got {shown(value)}")
    return tuple(dict(values) for values in given)


def _misfits(settings: SearchSettings, study: Study, space: SearchSpace) -> Iterator[SettingError]:
    """What fits each for itself, but not together."""
    steps, members = study.budget.steps, study.trainers.number
    assert steps is not None
    assert isinstance(study.objective, NetworkObjective)
    known = metrics_of(study.objective)
    if settings.metric not in known:
        yield SettingError("metric", f"no trial reports {settings.metric!r}; {suggestion(settings.metric, known)}")
    if settings.report_every > steps:
        yield SettingError(
            "report_every", f"must be at most {steps}, the training steps of a trial, got {settings.report_every}"
        )
    if settings.steps is not None and settings.steps < steps * members:
        of = f"{steps} steps" if members == 1 else f"{steps} steps of {members} networks"
        yield SettingError(
            "budget.steps", f"lasts for less than one trial of {of}; give at least {steps * members}"
        )
    yield from misfits(space, settings, steps)
    if isinstance(settings.scheduler, PopulationSettings):
        copies_starts = isinstance(settings.scheduler, PbtSettings)
        for one in space:
            if not is_changeable(one.key) and not (one.inherited and copies_starts):
                other = "pbt, which copies start values," if one.inherited else "another scheduler,"
                yield SettingError(
                    f"over.{one.key}",
                    f"cannot change while a trial trains, as pbt and pb2 change values; use {other} or give it a"
                    " fixed value",
                )
