"""Trainers of several workers on a real cluster do what one worker does with the whole batch."""

import gang_fakes
import pytest
import torch
from full_matrix import first_of
from gang_fakes import MortalWorkers
from gang_study import STUDY, Kept, alone
from ray import cloudpickle
from rounding import rounding

from selftune.errors import SettingError, Stopped
from selftune.schedulers import run_on_ray
from selftune.schedulers.gang import Gang

cloudpickle.register_pickle_by_value(gang_fakes)  # workers do not see this folder


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


@pytest.mark.timeout(400)  # where something else is running, workers wait for each other at every step
@pytest.mark.parametrize("dies", first_of([None, 1, 0]))
def test_two_workers_are_one_with_the_whole_batch(dies, cluster, tmp_path):
    """Also if one of them dies: then the trial starts again from its last checkpoint, with new workers."""
    trainers, marker, kept = STUDY.strategy.trainers(), tmp_path / "died", Kept()
    if dies is not None:
        trainers = MortalWorkers(trainers, marker, dies)
    report = on_ray(tmp_path / "run", trainers, kept)
    assert [reason for _, reason in kept.departures if "worker 1 of the trainer died" in reason] or dies != 1
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


def test_a_trial_without_a_bundle_for_each_worker_is_refused():
    with pytest.raises(SettingError, match=r"workers: is 3, but the trial has resources for 0; give it a bundle"):
        Gang(lambda: None, 3, None, "trainer-0", 0)
