import pytest

from selftune.studies.mistakes import Mistakes
from selftune.sweeps.changeable import is_changeable
from selftune.sweeps.sweep_file import parse_sweep


@pytest.mark.parametrize(
    "key",
    [
        "objective.optimization.learning_rate",
        "objective.optimization.momentum",
        "objective.optimization.clip_norm",
        "objective.optimization.settings.eps",
        "objective.optimization.groups.features.*.learning_rate",
        "method.learning_rate",
        "regularizers.dropout.rate",
        "regularizers.weight_decay.strength",
    ],
)
def test_what_is_read_at_every_step_may_change(key):
    assert is_changeable(key)


@pytest.mark.parametrize(
    "key",
    [
        "seed",
        "objective.hidden",
        "objective.optimization.batch_size",
        "objective.optimization.optimizer",
        "objective.optimization.schedule.name",
        "objective.optimization.settings.amsgrad",
        "method.name",
        "method.response.learning_rate",
        "method.warmup_steps",
        "regularizers.dropout.rate.start",
        "regularizers.weight_decay.parts",
        "regularizers.no_such.thing",
    ],
)
def test_what_is_built_of_a_value_and_start_values_may_not(key):
    assert not is_changeable(key)


@pytest.mark.parametrize("scheduler", ["pbt", "pb2"])
def test_a_sweep_whose_scheduler_changes_values_refuses_keys_that_cannot_change(scheduler):
    text = """
study: changing
objective: {task: digits, hidden: [8]}
regularizers: {dropout: {rate: {start: 0.1}}}
budget: {steps: 300}
sweep:
  over:
    objective.optimization.learning_rate: {log_uniform: [1.0e-3, 1.0e-1]}
    regularizers.dropout.rate.start: {uniform: [0, 0.5]}
  scheduler: SCHEDULER
  trials: 4
"""
    with pytest.raises(Mistakes) as refused:
        parse_sweep(text.replace("SCHEDULER", scheduler))
    (mistake,) = refused.value.mistakes
    assert mistake.key == "sweep.over.regularizers.dropout.rate.start"
    assert "cannot change while a trial trains" in mistake.message
