"""What Ray's metrics are given; its own classes check names and tags."""

from dataclasses import replace

import pytest
import torch
from ray.util.metrics import Metric

from selftune.hyperparameters import Hyperparameter, Space, Unit
from selftune.methods import HyperStep
from selftune.methods.method import Fault
from selftune.methods.reports import Diverged, Trained
from selftune.schedulers.metrics import StudyMetrics, SweepMetrics
from selftune.search import TrialRecord

SPACE = Space([Hyperparameter("dropout.rate", Unit(), 0.1, tuned=True)])


@pytest.fixture
def told(monkeypatch):
    """The sum of what counters were given, the last values of gauges, by name and tags in the order of keys."""
    found = {}
    record = Metric._record

    def noted(metric, value, tags=None):
        record(metric, value, tags)
        key = (metric.info["name"], *(tags[name] for name in metric.info["tag_keys"]))
        found[key] = value + found.get(key, 0.0) if type(metric).__name__ == "Counter" else value

    monkeypatch.setattr(Metric, "_record", noted)
    return found


def hyper_step(number, value=0.25):
    one = torch.ones(1, dtype=torch.float64)
    return HyperStep(number, 10, 1.0, 0.5, 0.75, value * one, one, one)


def test_a_study_tells_steps_losses_values_and_faults(told):
    metrics = StudyMetrics("digits", clock=lambda: 0.0)
    metrics.started(SPACE, 2)
    for number in range(3):
        for member in (0, 1):
            step = 10 * (number + 1)
            metrics.reported(member, Trained(number=number, training_step=step, training_loss=1.0))
        metrics.hyper_step(replace(hyper_step(number), faults={1: Fault("it is far off")} if number else {}))
    metrics.departed(0, "its worker died")
    metrics.hung(0, "hangs: order 3 takes longer than 60 seconds")
    metrics.reported(1, Diverged(number=3, training_step=31))
    metrics.lost(1, "loss is nan")
    metrics.lost(0, "its worker died")
    assert told == {
        ("selftune_training_steps", "digits", "0", "0"): 30,
        ("selftune_training_steps", "digits", "0", "1"): 31,
        ("selftune_hyper_steps", "digits", "0"): 3,
        ("selftune_training_loss", "digits", "0"): 0.5,
        ("selftune_validation_loss", "digits", "0"): 0.75,
        ("selftune_hyperparameter", "digits", "0", "dropout.rate"): 0.25,
        ("selftune_faults", "digits", "0", "0", "restart"): 1,
        ("selftune_faults", "digits", "0", "0", "hang"): 1,
        ("selftune_faults", "digits", "0", "1", "outvoted"): 2,
        ("selftune_faults", "digits", "0", "1", "diverged"): 1,
        ("selftune_faults", "digits", "0", "0", "lost"): 1,
    }


def test_after_a_resume_steps_of_before_are_not_counted_again(told):
    metrics = StudyMetrics("digits")
    for number in (5, 6):
        metrics.reported(0, Trained(number=number, training_step=10 * number, training_loss=1.0))
    assert told == {("selftune_training_steps", "digits", "0", "0"): 10}


def test_gauges_are_told_once_a_second(told):
    now = [0.0]
    metrics = StudyMetrics("digits", clock=lambda: now[0])
    metrics.started(SPACE, 1)
    for number, clock in enumerate((0.0, 0.5, 1.5)):
        now[0] = clock
        metrics.hyper_step(hyper_step(number, value=clock))
        if number == 1:
            assert told["selftune_hyperparameter", "digits", "0", "dropout.rate"] == 0.0
    assert told["selftune_hyperparameter", "digits", "0", "dropout.rate"] == 1.5


def test_a_sweep_tells_of_trials_by_number(told):
    metrics = SweepMetrics("digits")
    metrics.resumed({})
    values = {"objective.optimization.learning_rate": 0.1, "objective.optimization.optimizer": "sgd"}
    metrics.heard(TrialRecord(3, values))
    metrics.heard(TrialRecord(3, values, "running", 50, 100, measures={"validation_loss": 0.5}))
    metrics.hung(3, "hangs: report 3 since its start takes longer than 60 seconds")
    metrics.departed(3, "its worker died")
    metrics.heard(TrialRecord(3, values, "failed", 50, 100, message="its worker died"))
    assert told == {
        ("selftune_hyperparameter", "digits", "3", "objective.optimization.learning_rate"): 0.1,
        ("selftune_training_steps", "digits", "3", "0"): 100,
        ("selftune_validation_loss", "digits", "3"): 0.5,
        ("selftune_faults", "digits", "3", "0", "restart"): 1,
        ("selftune_faults", "digits", "3", "0", "hang"): 1,
        ("selftune_faults", "digits", "3", "0", "lost"): 1,
    }
