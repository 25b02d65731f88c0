"""What a study tunes, as keys of its file with distributions: the space that searches draw from."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from selftune.errors import SettingError
from selftune.hyperparameters import Hyperparameter
from selftune.hyperparameters.distribution import Distribution, Integers, LogUniform, Uniform
from selftune.lower_level.own_hyperparameters import PREFIX
from selftune.studies.mistakes import Mistakes
from selftune.studies.study import Study


@dataclass(frozen=True)
class TunedKey:
    """A hyperparameter that a study tunes.

    Args:
        key: of the study file.
        distribution: the prior of its domain, wide enough for the study's start values.
        starts: the study's start values, by the keys that hold them: one, or one per part.
    """

    key: str
    distribution: Distribution
    starts: Mapping[str, float]

    @property
    def middle(self) -> Any:
        """A value to stand for those that will be drawn."""
        return self.distribution.quantile(0.5)


def tuned_keys(study: Study) -> tuple[TunedKey, ...]:
    """All that a study tunes.

    Raises:
        Mistakes: where nothing can be drawn from, or start values cannot be written.

    >>> from selftune.studies.study_file import parse_study
    >>> study = parse_study('''
    ... study: example
    ... objective: {task: digits, hidden: [16]}
    ... regularizers: {dropout: {rate: {start: 0.1, domain: {interval: [0, 0.5]}}}}
    ... budget: {steps: 300}''')
    >>> [key] = tuned_keys(study)
    >>> key.key, key.distribution, dict(key.starts)
    ('regularizers.dropout.rate', Uniform(low=0.0, high=0.5), {'regularizers.dropout.rate.start': 0.1})
    """
    found: list[TunedKey] = []
    mistakes: list[SettingError] = []
    for hyperparameter in study.space.tuned:
        name = hyperparameter.name
        key = name if name.startswith(PREFIX) else f"regularizers.{name}"
        try:
            starts = dict(_starts(key, hyperparameter))
            found.append(TunedKey(key, _prior(hyperparameter, starts), starts))
        except ValueError as error:
            mistakes.append(SettingError(key, str(error)))
    if mistakes:
        raise Mistakes(mistakes)
    return tuple(found)


def _starts(key: str, hyperparameter: Hyperparameter) -> Iterator[tuple[str, float]]:
    values = hyperparameter.value if isinstance(hyperparameter.value, tuple) else (hyperparameter.value,)
    if len(set(values)) == 1:
        yield f"{key}.start", values[0]
        return
    for part, value in zip(hyperparameter.parts, values, strict=True):
        if "." in part:
            raise ValueError(
                f"starts at different values for parts whose names hold a dot, such as {part}; name the parts"
                " otherwise, or start all at one value"
            )
        yield f"{key}.start.{part}", value


def _prior(hyperparameter: Hyperparameter, starts: Mapping[str, float]) -> Distribution:
    """The prior, and wider where a start value lies outside: methods are compared over one space."""
    prior = hyperparameter.domain.prior()
    low, high = min(starts.values()), max(starts.values())
    if isinstance(prior, Integers):
        return Integers(min(prior.low, math.floor(low)), max(prior.high, math.ceil(high)))
    if isinstance(prior, LogUniform | Uniform):
        return type(prior)(min(prior.low, low), max(prior.high, high))
    return prior
