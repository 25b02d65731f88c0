"""Methods that a comparison can name: baselines, black-box searches, and methods that tune online."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from selftune.errors import SettingError, suggestion
from selftune.search.searchers import SEARCHERS
from selftune.search.trial_schedulers import TRIAL_SCHEDULERS
from selftune.training.method_record import fitting

HELD, RULE = "held", "rule"
AND = "+"
"""Between a method that tunes online and the scheduler that stops or copies its trials."""
_POPULATIONS = ("pbt", "pb2")
_NO_SEARCH = ("grid", "none")  # a grid's size is not that of a budget

Kind = Literal["baseline", "search", "online"]


@dataclass(frozen=True)
class ComparedMethod:
    """How a study is tuned in one row of a comparison.

    Args:
        name: as the command line has it.
        kind: ``baseline``: at given values; ``search``: values drawn, held while a trial trains; ``online``: tuned
            while a trial trains, from start values that are drawn.
        searcher, scheduler: as in a section ``sweep``.
        tuner: the method of a study file, where one tunes online.
    """

    name: str
    kind: Kind
    searcher: str = "random"
    scheduler: str = "none"
    tuner: str = HELD

    @property
    def is_population(self) -> bool:
        """Whether all trials train side by side, so that their number has to be known."""
        return self.scheduler in _POPULATIONS


def known_methods(objective: object) -> list[str]:
    """What a comparison on an objective can name, schedulers around online methods left out."""
    searchers = [name for name in SEARCHERS if name not in _NO_SEARCH]
    return [HELD, RULE, *searchers, *_schedulers(), *_online(objective)]


def compared_method(name: str, objective: object) -> ComparedMethod:
    """The method of a name.

    Raises:
        SettingError: if there is none, with names that are close.

    >>> compared_method("asha", None)
    ComparedMethod(name='asha', kind='search', searcher='random', scheduler='asha', tuner='held')
    >>> compared_method("ashe", None)
    Traceback (most recent call last):
    selftune.errors.SettingError: methods: unknown method 'ashe'; did you mean asha?
    """
    if name in (HELD, RULE):
        return ComparedMethod(name, "baseline")
    if name in _schedulers():
        return ComparedMethod(name, "search", scheduler=name)
    if name in SEARCHERS and name not in _NO_SEARCH:
        return ComparedMethod(name, "search", searcher=name)
    tuner, _, scheduler = name.partition(AND)
    if tuner in _online(objective) and (not scheduler or scheduler in _schedulers()):
        return ComparedMethod(name, "online", scheduler=scheduler or "none", tuner=tuner)
    raise SettingError("methods", f"unknown method {name!r}; {suggestion(name, known_methods(objective))}")


def compared_methods(names: Sequence[str], objective: object) -> tuple[ComparedMethod, ...]:
    """The methods of several names.

    Raises:
        SettingError: if there is none of a name, or a name is there twice.
    """
    methods = tuple(compared_method(name, objective) for name in names)
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise SettingError("methods", f"{twice} is there twice; name it once")
    return methods


def _schedulers() -> list[str]:
    return [name for name in TRIAL_SCHEDULERS if name not in _NO_SEARCH]


def _online(objective: object) -> list[str]:
    return [name for name in fitting(objective) if name != HELD]
