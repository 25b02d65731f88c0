"""The bundles of a trial: one for each worker of each member of its team."""

import pytest

from selftune.schedulers.bundles import trial_bundles
from selftune.schedulers.errors import SchedulerError
from selftune.schedulers.sweep.run import _fitting
from selftune.search import SearchSettings

SETTINGS = SearchSettings(metric="validation_loss", mode="min", report_every=10, trials=2)


def test_a_trial_has_a_bundle_for_each_worker_of_each_member():
    assert trial_bundles(3, 2, cpus=0.5, gpus=1) == [{"CPU": 0.5, "GPU": 1}] * 6
    assert trial_bundles(2, 1, cpus=1, gpus=0) == [{"CPU": 1}] * 2


@pytest.mark.parametrize(("workers", "fit"), [(1, 8), (2, 4), (3, 2)])
def test_trials_at_a_time_have_room_for_all_their_workers(workers, fit, node):
    node(CPU=8)
    assert _fitting(SETTINGS, 2, workers, {"CPU": 0.5, "GPU": 0}, print) == fit


def test_a_trial_whose_workers_have_no_room_is_refused(node):
    node(CPU=1)
    with pytest.raises(SchedulerError, match=r"asked for 2 trainers of 2 workers with 0\.5 cpus? each"):
        _fitting(SETTINGS, 2, 2, {"CPU": 0.5, "GPU": 0}, print)
