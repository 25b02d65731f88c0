"""Where the values of trials come from: Optuna's samplers through Ray Tune, or a grid."""

from __future__ import annotations

import random
import warnings
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import optuna
from ray.tune.search.optuna import OptunaSearch

from selftune.hyperparameters.distribution import Choices, Integers, LogUniform, Uniform
from selftune.schedulers import ray_internals
from selftune.search.grid import grid
from selftune.search.searchers import CmaEsSearch, GPSearch, GridSearch, QuasiRandomSearch, RandomSearch, TPESearch
from selftune.search.settings import SearchSettings
from selftune.search.space import SearchSpace, Swept


class Samples(ABC):
    """Gives the values of one trial after the other."""

    @abstractmethod
    def draw(self, number: int) -> dict[str, Any] | None:
        """Values by key for trial ``number``; None if there are no more."""

    @abstractmethod
    def tell(self, number: int, value: float | None, failed: bool = False) -> None:
        """What came of a trial: the metric's value, or None if it has none; ``failed`` if it never trained."""

    @abstractmethod
    def redraw(self, number: int, values: Mapping[str, Any] | None) -> None:
        """Draws again for a trial what was drawn for it before: the next draws are those that followed."""


class GridSamples(Samples):
    """The combinations of a grid in random order, so that a search which stops early has seen all of it."""

    def __init__(self, space: SearchSpace, points: int, seed: int) -> None:
        self.combinations = grid(space, points)
        random.Random(seed).shuffle(self.combinations)
        self._next = 0

    def draw(self, number: int) -> dict[str, Any] | None:
        if self._next == len(self.combinations):
            return None
        self._next += 1
        return dict(self.combinations[self._next - 1])

    def tell(self, number: int, value: float | None, failed: bool = False) -> None:
        pass

    def redraw(self, number: int, values: Mapping[str, Any] | None) -> None:
        self.draw(number)


class OptunaSamples(Samples):
    """What an Optuna sampler suggests, by way of Ray Tune's ``OptunaSearch``.

    Args:
        first: values of the first trials; keys that are left out are drawn.
    """

    def __init__(
        self,
        space: SearchSpace,
        sampler: optuna.samplers.BaseSampler,
        metric: str,
        mode: Literal["min", "max"],
        first: Sequence[Mapping[str, Any]] = (),
    ) -> None:
        self._space = space
        self._draws_as_before = True
        points = [{key: _stored(space[key], value) for key, value in values.items()} for values in first]
        self._search = OptunaSearch(
            DefineByRun(space), metric=metric, mode=mode, sampler=sampler, points_to_evaluate=points
        )

    def draw(self, number: int) -> dict[str, Any] | None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # of a first draw that takes a second, for its imports
            found = self._search.suggest(str(number))
        return {key: _read(self._space[key], value) for key, value in (found or {}).items()}

    def tell(self, number: int, value: float | None, failed: bool = False) -> None:
        # Results on the way are for Optuna's pruners, and Ray's schedulers stop trials here.
        result = None if value is None else {self._search.metric: value}
        self._search.on_trial_complete(str(number), result, error=failed)

    def redraw(self, number: int, values: Mapping[str, Any] | None) -> None:
        if self._draws_as_before and self.draw(number) == values:
            return
        if self._draws_as_before:  # another version of Optuna: it is given what was drawn
            self._draws_as_before = False
            self._search.on_trial_complete(str(number), error=True)
        known = {} if values is None else values
        given = {key: _stored(self._space[key], value) for key, value in known.items()}
        ray_internals.study_of(self._search).enqueue_trial(given)
        self.draw(number)


class DefineByRun:
    """A search space as Optuna's define-by-run function, so that conditions hold in every sample.

    Optuna sees a choice's options by their number: it takes no lists, and 1, 1.0 and true for the same.
    """

    def __init__(self, space: SearchSpace) -> None:
        self._space = space

    def __call__(self, trial: Any) -> None:
        self._space.draw(lambda swept: _read(swept, _suggested(trial, swept)))


def _suggested(trial: Any, swept: Swept) -> Any:
    match swept.distribution:
        case Uniform(low, high):
            return trial.suggest_float(swept.key, low, high)
        case LogUniform(low, high):
            return trial.suggest_float(swept.key, low, high, log=True)
        case Integers(low, high):
            return trial.suggest_int(swept.key, low, high)
        case Choices(options):
            return trial.suggest_categorical(swept.key, list(range(len(options))))
        case other:
            raise TypeError(f"{swept.key}: Optuna has nothing for {other.describe()}")


def _stored(swept: Swept, value: Any) -> Any:
    distribution = swept.distribution
    if not isinstance(distribution, Choices):
        return value
    return next(
        index
        for index, option in enumerate(distribution.options)
        if type(option) is type(value) and option == value
    )


def _read(swept: Swept, stored: Any) -> Any:
    return swept.distribution.options[stored] if isinstance(swept.distribution, Choices) else stored


def samples_of(space: SearchSpace, settings: SearchSettings) -> Samples:
    """What the settings of a search draw from.

    Raises:
        SettingError: if a grid is too large.
    """
    if isinstance(settings.searcher, GridSearch):
        return GridSamples(space, settings.searcher.points, settings.seed)
    return OptunaSamples(
        space, _sampler(settings.searcher, settings.seed), settings.metric, settings.mode, settings.first
    )


def _sampler(searcher: Any, seed: int) -> optuna.samplers.BaseSampler:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        match searcher:
            case RandomSearch():
                return optuna.samplers.RandomSampler(seed=seed)
            case QuasiRandomSearch():
                return optuna.samplers.QMCSampler(
                    qmc_type="sobol", scramble=True, seed=seed, warn_independent_sampling=False
                )
            case TPESearch(startup_trials, multivariate):
                return optuna.samplers.TPESampler(
                    n_startup_trials=startup_trials,
                    multivariate=multivariate,
                    group=multivariate,  # else conditions would be left out of what it models
                    constant_liar=True,  # trials run side by side, and should differ
                    seed=seed,
                )
            case GPSearch(startup_trials):
                return optuna.samplers.GPSampler(n_startup_trials=startup_trials, seed=seed)
            case CmaEsSearch(startup_trials):
                return optuna.samplers.CmaEsSampler(
                    n_startup_trials=startup_trials, seed=seed, warn_independent_sampling=False
                )
            case other:
                raise TypeError(f"no searcher has the settings {other!r}")
