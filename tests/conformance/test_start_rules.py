"""Rules of all entries for ``start: auto``: what they give lies in the domain, and they say their sources."""

import dataclasses

import pytest
from conformance_objectives import objective_for

from selftune.lower_level.optimization import Optimization
from selftune.lower_level.start_values import Setup, rule_value
from selftune.regularization.regularizer import regularizers

RULED = [
    (name, h) for name in regularizers.names() for h in regularizers[name].hyperparameters if h.start is not None
]


@pytest.mark.parametrize(("name", "hyperparameter"), RULED, ids=lambda one: getattr(one, "name", one))
def test_a_rule_gives_a_start_from_which_tuning_can_go(name, hyperparameter):
    given = objective_for(name)
    adam = dataclasses.replace(given.optimization, optimizer="adam", learning_rate=0.001)
    started = rule_value(hyperparameter, hyperparameter.value, _as_trained(given, adam))
    assert hyperparameter.domain.is_interior(started)
    assert hyperparameter.start.source


def _as_trained(objective, optimization: Optimization):
    setup = Setup(objective, steps=500)
    shown = type("Shown", (), {"__getattr__": lambda self, name: getattr(objective, name)})()
    shown.optimization = optimization
    setup.objective = shown
    return setup


def test_what_one_setting_serves_starts_there():
    constants = {f"{name}.{h.name}": h.start.rule for name, h in RULED if not callable(h.start.rule)}
    assert constants.items() >= {"label_smoothing.epsilon": 0.1, "mixup.alpha": 0.2, "sam.rho": 0.05}.items()
