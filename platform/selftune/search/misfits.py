"""What of a search fits each for itself, but not together."""

from __future__ import annotations

import math
from collections.abc import Iterator

from selftune.errors import SettingError
from selftune.hyperparameters.distribution import Choices
from selftune.search.searchers import CmaEsSearch, GridSearch, QuasiRandomSearch, RandomSearch
from selftune.search.settings import SearchSettings
from selftune.search.space import SearchSpace
from selftune.search.trial_schedulers import AshaSettings, MedianSettings, Pb2Settings, PopulationSettings


def misfits(space: SearchSpace, settings: SearchSettings, steps: int) -> Iterator[SettingError]:
    """Why a search cannot go on like this; keys are those of a section ``sweep``.

    Args:
        steps: training steps of a trial.
    """
    scheduler, numbers = settings.scheduler, [s.key for s in space if not isinstance(s.distribution, Choices)]
    if isinstance(settings.searcher, CmaEsSearch) and len(numbers) < 2:
        yield SettingError(
            "searcher", f"cmaes needs at least two numbers to search over, and there are {len(numbers)}; use tpe"
        )
    if isinstance(settings.searcher, GridSearch) and settings.first:
        yield SettingError("first", "goes with any searcher but grid, whose trials are all given")
    if isinstance(scheduler, AshaSettings | MedianSettings) and (scheduler.grace_steps or 0) > steps:
        yield SettingError(
            "scheduler.grace_steps",
            f"must be at most {steps}, the training steps of a trial, got {scheduler.grace_steps}",
        )
    if isinstance(scheduler, PopulationSettings):
        yield from _population(space, settings, scheduler, steps)


def _population(
    space: SearchSpace, settings: SearchSettings, scheduler: PopulationSettings, steps: int
) -> Iterator[SettingError]:
    name = "pb2" if isinstance(scheduler, Pb2Settings) else "pbt"
    smallest = math.ceil(1 / scheduler.quantile)
    if settings.trials is None:
        yield SettingError("trials", f"is missing: {name} needs the size of its population, at least {smallest}")
    elif settings.trials < smallest:
        yield SettingError(
            "trials",
            f"is a population of {settings.trials}, of which a quantile of {scheduler.quantile:g} is less than one"
            f" trial; give at least {smallest}, or a larger scheduler.quantile",
        )
    if not isinstance(settings.searcher, RandomSearch | QuasiRandomSearch):
        yield SettingError(
            "searcher", f"must be random or quasi-random with {name}, which changes values by itself later"
        )
    if scheduler.interval_steps is not None and scheduler.interval_steps > steps:
        yield SettingError(
            "scheduler.interval_steps",
            f"must be at most {steps}, the training steps of a trial, got {scheduler.interval_steps}",
        )
    for one in space:
        if one.when:
            yield SettingError(f"over.{one.key}.when", f"conditions do not go with {name}, which changes values")
        if name == "pb2" and isinstance(one.distribution, Choices):
            yield SettingError(f"over.{one.key}", "must be a number with pb2; use pbt for choices")
