"""Trainers of several workers on a real cluster do what one worker does with the whole batch."""

import gang_fakes
import pytest
import torch
from full_matrix import first_of
from gang_fakes import MortalWorkers
from ray import cloudpickle
from rounding import rounding

from selftune.errors import Stopped
from selftune.listener import Listener
from selftune.schedulers import run_on_ray
from selftune.studies.study_file import parse_study
from selftune.training import run_in_process

cloudpickle.register_pickle_by_value(gang_fakes)  # workers do not see this folder

STUDY = parse_study(
    """
study: digits
objective: {task: digits, hidden: [16], train_examples: 100, validation_examples: 60, batch_size: 20}
regularizers:
  dropout: {rate: {start: 0.1}}
  weight_decay: {parts: layer, strength: {start: 1.0e-3}}
  mixup: {alpha: 0.2}
method: {name: self_tuning, warmup_steps: 6, train_steps: 3, checkpoint_every: 2}
trainers: {number: 1, workers: 2}
budget: {steps: 30}
metric: validation_loss
"""
)


class Kept(Listener):
    def __init__(self):
        self.steps = []

    def hyper_step(self, step):
        self.steps.append(step)

    @property
    def values(self):
        return torch.stack([step.hyperparameters for step in self.steps])


def alone():
    """What one process makes of it."""
    kept, machine = Kept(), STUDY.strategy.method()
    reports = machine.results(run_in_process(machine, {0: STUDY.strategy.trainers()(0)}, kept))
    return kept, reports[0]


def on_ray(folder, trainers, listener, **settings):
    return run_on_ray(
        STUDY.strategy.method,
        trainers,
        members=1,
        workers=2,
        cpus=1,
        gpus=0,
        folder=folder,
        listener=listener,
        space=STUDY.space,
        **settings,
    )[0]


def assert_same(kept, report):
    expected, one = alone()
    tolerance = rounding(expected.values.abs().max(), 1_000, torch.float32)
    torch.testing.assert_close(kept.values, expected.values, rtol=0, atol=tolerance)
    assert report.metrics["test_loss"] == pytest.approx(one.metrics["test_loss"], rel=1e-4)
    for name, tensor in one.network.items():
        torch.testing.assert_close(report.network[name], tensor, rtol=0, atol=1e-4)


@pytest.mark.parametrize("dies", first_of([None, 1, 0]))
def test_two_workers_are_one_with_the_whole_batch(dies, cluster, tmp_path):
    """Also if one of them dies: then the trial starts again from its last checkpoint, with new workers."""
    trainers, marker, kept = STUDY.strategy.trainers(), tmp_path / "died", Kept()
    if dies is not None:
        trainers = MortalWorkers(trainers, marker, dies)
    report = on_ray(tmp_path / "run", trainers, kept)
    assert marker.exists() == (dies is not None)
    assert_same(kept, report)


@pytest.mark.full
def test_a_stopped_study_goes_on(cluster, tmp_path):
    before, after = Kept(), Kept()
    with pytest.raises(Stopped):
        on_ray(tmp_path, STUDY.strategy.trainers(), before, stop=lambda: len(before.steps) > 3)
    report = on_ray(tmp_path, STUDY.strategy.trainers(), after, resume=True)
    before.steps += after.steps
    assert_same(before, report)
