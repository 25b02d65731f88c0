"""A study as the rules would have it: without a search, at the values that ``start: auto`` takes."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass, replace

from selftune.errors import SettingError
from selftune.hyperparameters import AUTO, Tune
from selftune.lower_level.objective import NetworkObjective
from selftune.lower_level.start_values import Setup, rule_value, with_starts
from selftune.regularization.regularizer import Regularizer
from selftune.studies.study import Study


@dataclass(frozen=True, eq=False)
class RuleStudy:
    """A study whose tuned hyperparameters start at their rules' values, to be held there.

    Args:
        study: it. Whatever is tuned still is, so that it is held as the start values of any study are.
        values: what rules gave, by hyperparameter.
        kept: what keeps the study's own start value, by hyperparameter, and why.
    """

    study: Study
    values: Mapping[str, float]
    kept: Mapping[str, str]


def rule_study(study: Study) -> RuleStudy:
    """The study with every tuned hyperparameter that has a rule at its rule's value, the others at their starts.

    Rules see each other as ``start: auto`` does: noises are in balance with a dropout that starts by its own rule.

    Raises:
        SettingError: if the study has no network, and so no regularizers.

    >>> from selftune.lower_level.objective import tasks
    >>> from selftune.methods import Budget
    >>> from selftune.regularization.regularizer import built_regularizers
    >>> given = {"label_smoothing": {"epsilon": Tune(0.02)}, "l1": {"strength": Tune(1e-4)}}
    >>> study = Study("example", tasks["digits"](hidden=(16,)), Budget(steps=500), built_regularizers(given))
    >>> found = rule_study(study)
    >>> found.values, found.kept
    ({'label_smoothing.epsilon': 0.1}, {'l1.strength': 'no rule says where strength starts'})
    """
    objective = study.objective
    if not isinstance(objective, NetworkObjective):
        raise SettingError("objective", "is a smooth problem; rules for start values are for networks")
    kept: dict[str, str] = {}
    regularizers = tuple(_by_rule(regularizer) for regularizer in study.regularizers)
    setup = Setup(objective, regularizers, study.budget.steps)
    for regularizer, own in zip(regularizers, study.regularizers, strict=True):
        for name in _tuned(own):
            declared = next(h for h in own.hyperparameters if h.name == name)
            try:
                rule_value(declared, own.settings[name], setup)
            except ValueError as error:
                kept[f"{own.name}.{name}"] = str(error)
                regularizer.settings[name] = own.settings[name]
    started = with_starts(regularizers, objective, study.budget.steps)
    values = {
        f"{regularizer.name}.{name}": regularizer.settings[name].start
        for regularizer in started
        for name in _tuned(regularizer)
        if f"{regularizer.name}.{name}" not in kept
    }
    return RuleStudy(replace(study, regularizers=started), values, kept)


def _tuned(regularizer: Regularizer) -> list[str]:
    return [name for name, value in regularizer.settings.items() if isinstance(value, Tune)]


def _by_rule(regularizer: Regularizer) -> Regularizer:
    """A copy in which everything that is tuned starts by a rule."""
    automatic = copy.copy(regularizer)
    automatic.settings = dict(regularizer.settings)
    for name in _tuned(regularizer):
        automatic.settings[name] = Tune(AUTO, regularizer.settings[name].domain)
    return automatic
