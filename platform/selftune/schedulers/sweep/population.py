"""Population-based training and bandits, Ray Tune's own, on teams.

A trial that does badly goes on from the last checkpoint of one that does well, with changed values. Values that do
not make a study are not taken: then it goes on with those of the other.
"""

from __future__ import annotations

import math
import random
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from pyarrow.fs import FileType
from ray.tune.schedulers import PopulationBasedTraining, TrialScheduler
from ray.tune.schedulers.pb2 import PB2
from sklearn.exceptions import ConvergenceWarning

from selftune.hyperparameters.distribution import Distribution, Integers, LogUniform
from selftune.schedulers import ray_internals
from selftune.schedulers.sweep.past import Saved
from selftune.schedulers.sweep.records import NUMBER, START, STEP, VALUES, TrialRecords
from selftune.search.mutation import mutated
from selftune.search.space import SearchSpace
from selftune.search.trial_schedulers import Pb2Settings, PbtSettings

COORDINATES = "coordinates"
"""Where a trial's config holds its values as population-based bandits see them: numbers on an even scale."""


def population_scheduler(
    space: SearchSpace, records: TrialRecords, interval: int, by: Mapping[str, Any]
) -> TrialScheduler:
    """The scheduler that the settings of a search with a population name.

    Args:
        interval: training steps between two looks at a trial.
        by: time, metric and mode of Tune's schedulers.
    """
    settings = records.settings.scheduler
    common = {
        **by,
        "perturbation_interval": interval,
        "quantile_fraction": settings.quantile,
        "log_config": False,
    }
    if isinstance(settings, PbtSettings):
        explore: Any = Explore(space, records, settings.resample)
        return _Training(records, custom_explore_fn=explore, **common)
    assert isinstance(settings, Pb2Settings)
    bounds = {one.key: list(bounds_of(one.distribution)) for one in space}
    return _Bandits(space, records, hyperparam_bounds={COORDINATES: bounds}, **common)


class Explore:
    """Changes the values of a config that was copied, as ``mutated`` says."""

    def __init__(self, space: SearchSpace, records: TrialRecords, resample: float) -> None:
        self._space = space
        self._records = records
        self._resample = resample
        self._generator = random.Random(records.settings.seed)

    def __call__(self, config: dict[str, Any]) -> dict[str, Any]:
        values = mutated(self._space, config[VALUES], self._resample, self._generator)
        return config if self._records.check(values) else {**config, VALUES: values}


class FromCoordinates:
    """Gives a config the values at its coordinates."""

    def __init__(self, space: SearchSpace, records: TrialRecords) -> None:
        self._space = space
        self._records = records

    def __call__(self, config: dict[str, Any]) -> dict[str, Any]:
        where = config[COORDINATES]
        values = {one.key: value_at(one.distribution, where[one.key]) for one in self._space}
        if self._records.check(values):
            return {**config, COORDINATES: coordinates(self._space, config[VALUES])}
        return {**config, VALUES: values, COORDINATES: coordinates(self._space, values)}


def coordinates(space: SearchSpace, values: Mapping[str, Any]) -> dict[str, float]:
    """Values as numbers on which a step has the same meaning everywhere: logarithms of log-uniform ones.

    >>> from selftune.search import Swept
    >>> space = SearchSpace((Swept("a", LogUniform(0.1, 1.0)), Swept("b", Integers(1, 8))))
    >>> coordinates(space, {"a": 1.0, "b": 2})
    {'a': 0.0, 'b': 2.0}
    """
    return {one.key: coordinate(one.distribution, values[one.key]) for one in space}


def coordinate(distribution: Distribution, value: float) -> float:
    return math.log(value) if isinstance(distribution, LogUniform) else float(value)


def bounds_of(distribution: Distribution) -> tuple[float, float]:
    """The coordinates of a distribution's ends."""
    low, high = (coordinate(distribution, distribution.quantile(end)) for end in (0.0, 1.0))
    return low, high


def value_at(distribution: Distribution, where: float) -> Any:
    """The value at a coordinate, within the distribution."""
    low, high = distribution.quantile(0.0), distribution.quantile(1.0)
    if isinstance(distribution, Integers):
        return min(max(round(where), low), high)
    return min(max(math.exp(where) if isinstance(distribution, LogUniform) else where, low), high)


class _Copies(PopulationBasedTraining):
    """Tune's population-based training where copies are recorded, and can be repeated.

    Attributes:
        copied: which trial the last report led to a copy of, and the config that came of it; taken by who asks.
        repeated: the same of a report that is heard again: what is copied then.
    """

    def __init__(self, records: TrialRecords, **settings: Any) -> None:
        super().__init__(**settings)
        self._records = records
        self.copied: tuple[Any, dict[str, Any]] | None = None
        self.repeated: tuple[Any, dict[str, Any]] | None = None

    def rebuilt(self, checkpoint_of: Callable[[Any, int], Any]) -> None:
        """Gives trials their checkpoints, once all that was has been heard again.

        Args:
            checkpoint_of: a trial's checkpoint of a training step, or a later one; None if there is none.
        """
        for trial, known in self._trial_state.items():
            state: Any = known
            if isinstance(state.last_checkpoint, Saved):
                state.last_checkpoint = checkpoint_of(trial, int(state.last_result[STEP]))

    def _get_new_config(self, trial: Any, trial_to_clone: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # of a Gaussian process that has few points yet
            config, operations = super()._get_new_config(trial, trial_to_clone)
        new = {key: value for key, value in config.items() if key != START}  # which is the other's
        return {**new, NUMBER: trial.config[NUMBER]}, operations

    def _exploit(self, tune_controller: Any, trial: Any, trial_to_clone: Any) -> None:
        source: Any = self._trial_state[trial_to_clone]
        checkpoint = source.last_checkpoint
        if isinstance(checkpoint, Saved):  # heard again
            if self.repeated is not None:
                super()._exploit(tune_controller, trial, self.repeated[0])
            return
        if checkpoint.filesystem.get_file_info(checkpoint.path).type == FileType.NotFound:
            return  # it is older than those that are kept; there will be another
        super()._exploit(tune_controller, trial, trial_to_clone)
        step = int(source.last_result[STEP])
        if is_of_before(checkpoint, trial):
            # Tune would read what it has saved beside, in another version perhaps
            ray_internals.forget_checkpoint(trial)
            trial.set_config({**trial.config, START: {"folder": checkpoint.path, "step": step}})
        self.copied = trial_to_clone, trial.config
        self._records.copied(trial.trial_id, trial_to_clone.trial_id, trial.config[VALUES], step)


def is_of_before(checkpoint: Any, trial: Any) -> bool:
    """Whether an earlier driver has saved a checkpoint."""
    place = trial.storage  # None without Tune
    return place is not None and not Path(checkpoint.path).is_relative_to(place.experiment_fs_path)


class _Training(_Copies):
    """Population-based training."""


class _Bandits(_Copies, PB2):
    """Population-based bandits: new values come from a Gaussian process."""

    def __init__(self, space: SearchSpace, records: TrialRecords, **settings: Any) -> None:
        super().__init__(records, custom_explore_fn=FromCoordinates(space, records), **settings)
        self._space = space

    def on_trial_add(self, tune_controller: Any, trial: Any) -> None:
        trial.set_config({**trial.config, COORDINATES: coordinates(self._space, trial.config[VALUES])})
        super().on_trial_add(tune_controller, trial)
