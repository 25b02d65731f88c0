"""How important each swept key was for being among the best trials."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from selftune.hyperparameters.distribution import Choices, Distribution
from selftune.search import SearchSpace
from selftune.tracking.trials import Trials

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution

FEWEST_TRIALS = 10  # with a value; below, chance decides
BEST_TRIALS = (
    20  # that are compared with all, if they are between a tenth and a third: fewer say little but chance
)


def importance(trials: Trials) -> dict[str, float]:
    """The share of each swept key, largest first, adding up to 1; empty with fewer than ten trials.

    PED-ANOVA ("Efficiently Quantifying Hyperparameter Importance in Arbitrary Subspaces", arXiv 2304.10255): how
    far the values of the best trials (twenty, but at least a tenth and at most a third) are from those of all. A
    key that is there under some values of others only counts by how often it is there (arXiv 2601.20800). Trials
    that were stopped count with the best value that they met. No random number is drawn.
    """
    met = trials.at_best
    space = SearchSpace(tuple(one for one in trials.space if len(_values(one.key, met)) > 1))
    if len(met) < FEWEST_TRIALS or not len(space):
        return {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of keys that were there too seldom to count
        shares = _evaluated(trials, space)
    total = sum(shares.values())
    return {key: share / total for key, share in shares.items()} if total > 0 else {}


def _evaluated(trials: Trials, space: SearchSpace) -> dict[str, float]:
    import optuna
    from optuna.importance import PedAnovaImportanceEvaluator

    met = trials.at_best
    verbosity = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)  # it logs that a study was made
    try:
        study = optuna.create_study(direction="minimize" if trials.settings.mode == "min" else "maximize")
    finally:
        optuna.logging.set_verbosity(verbosity)
    known = {one.key: _optuna(one.distribution, _values(one.key, met)) for one in space}
    for record in met.values():
        there = [key for key in known if key in record.values]
        study.add_trial(
            optuna.trial.create_trial(
                value=record.best,
                params={key: _plain(space[key].distribution, record.values[key]) for key in there},
                distributions={key: known[key] for key in there},
            )
        )
    return PedAnovaImportanceEvaluator(target_quantile=best_share(len(met))).evaluate(study, [*known])


def best_share(trials: int) -> float:
    """Of so many trials the share that counts as best."""
    return min(1 / 3, max(0.1, BEST_TRIALS / trials))


def _values(key: str, met: Mapping[int, Any]) -> list[Any]:
    return [record.values[key] for record in met.values() if key in record.values]


def _optuna(distribution: Distribution, values: Sequence[Any]) -> BaseDistribution:
    """The distribution as Optuna's, wide enough for values that population-based training moved out of it."""
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    if isinstance(distribution, Choices):
        return CategoricalDistribution(range(len(distribution.options)))  # options may be lists
    own = distribution.to_optuna()
    low, high = min(own.low, *values), max(own.high, *values)
    return (
        IntDistribution(low, high)
        if isinstance(own, IntDistribution)
        else FloatDistribution(low, high, log=own.log)
    )


def _plain(distribution: Distribution, value: Any) -> Any:
    return distribution.options.index(value) if isinstance(distribution, Choices) else value
