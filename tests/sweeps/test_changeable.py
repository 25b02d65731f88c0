import random

import pytest

from selftune.search.mutation import mutated
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


SWEEP = """
study: changing
objective: {task: digits, hidden: [8]}
regularizers: {dropout: {rate: {start: 0.1}}}
budget: {steps: 300}
sweep:
  over:
    objective.optimization.learning_rate: {log_uniform: [1.0e-3, 1.0e-1]}
    KEY
  scheduler: SCHEDULER
  trials: 4
"""
STARTS = "regularizers.dropout.rate.start: {uniform: [0, 0.5]}"


def sweep(key, scheduler):
    return parse_sweep(SWEEP.replace("KEY", key).replace("SCHEDULER", scheduler))


@pytest.mark.parametrize(
    ("scheduler", "key", "advice"),
    [
        ("pbt", "objective.hidden: {choice: [[8], [16]]}", "use another scheduler, or give it a fixed value"),
        ("pb2", "objective.optimization.batch_size: {integer: [8, 64]}", "use another scheduler, or"),
        ("pb2", STARTS, "use pbt, which copies start values, or give it a fixed value"),
    ],
)
def test_a_sweep_whose_scheduler_changes_values_refuses_keys_that_cannot_change(scheduler, key, advice):
    with pytest.raises(Mistakes) as refused:
        sweep(key, scheduler)
    (mistake,) = refused.value.mistakes
    assert mistake.key == f"sweep.over.{key.partition(':')[0]}"
    assert "cannot change while a trial trains" in mistake.message
    assert advice in mistake.message


def test_start_values_are_copied_with_what_was_tuned_from_them():
    space = sweep(STARTS, "pbt").space
    values = {"objective.optimization.learning_rate": 0.01, "regularizers.dropout.rate.start": 0.3}
    new = [mutated(space, values, 0.5, random.Random(seed)) for seed in range(20)]
    assert {one["regularizers.dropout.rate.start"] for one in new} == {0.3}
    assert len({one["objective.optimization.learning_rate"] for one in new}) > 5
