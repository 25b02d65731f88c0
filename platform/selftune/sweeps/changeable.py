"""Which keys of a study may change while a trial trains, as population-based training changes them."""

from __future__ import annotations

from selftune.sweeps.over import declared_at

_OPTIMIZATION = "objective.optimization."
_OF_OPTIMIZERS = ("learning_rate", "momentum", "weight_decay")
_OF_STEPS = ("clip_norm", "clip_value", "average")
_OF_METHODS = ("learning_rate", "scale_learning_rate", "entropy_weight")
_NUMBERS = ("alpha", "beta2_decay", "betas", "dampening", "eps", "lr_decay", "momentum_decay", "rho")
"""Further settings of torch's optimizers that are read at every step."""


def is_changeable(key: str) -> bool:
    """Whether a trial may go on with another value of a key from a state that was reached with the old one.

    Learning rates and what else is read at every step of an optimizer may; so may hyperparameters of regularizers
    that hold a value, where they may change during training at all. What is built of a value may not: networks,
    data, batches, optimizers, schedules. Start values may not: the values that were tuned from them go on.

    >>> is_changeable("objective.optimization.learning_rate"), is_changeable("objective.hidden")
    (True, False)
    >>> is_changeable("regularizers.dropout.rate"), is_changeable("regularizers.dropout.rate.start")
    (True, False)
    """
    if key.startswith(_OPTIMIZATION):
        return _of_optimization(key.removeprefix(_OPTIMIZATION))
    if key.startswith("method."):
        return key.removeprefix("method.") in _OF_METHODS
    declared = declared_at(key)
    return declared is not None and key.endswith(f".{declared.name}") and declared.online


def _of_optimization(key: str) -> bool:
    section, _, rest = key.partition(".")
    if not rest:
        return key in (*_OF_OPTIMIZERS, *_OF_STEPS)
    if section == "groups":  # a pattern may hold dots
        return rest.rpartition(".")[2] in (*_OF_OPTIMIZERS, *_NUMBERS)
    return section == "settings" and rest in _NUMBERS
