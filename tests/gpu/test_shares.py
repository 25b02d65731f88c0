"""Two trainers that share a GPU, as Ray's scheduler gives it to them; without one, two that share a processor."""

import pytest
import ray
import torch
import tuned_runs
from ray import cloudpickle

from selftune.listener import Remembered
from selftune.methods import Budget, SelfTuning, SelfTuningSettings
from selftune.schedulers import run_on_ray
from selftune.schedulers.session import private_session
from selftune.training import TrainerFactory

cloudpickle.register_pickle_by_value(tuned_runs)  # workers do not see this folder


@pytest.fixture
def cluster(gpu, monkeypatch):
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    with private_session() as folder:
        ray.init(
            address="local",
            num_cpus=2,
            num_gpus=int(gpu),
            include_dashboard=False,
            object_store_memory=100 * 2**20,
            log_to_driver=False,
            logging_level="ERROR",
            _temp_dir=str(folder),
        )
        yield
        ray.shutdown()


def method():
    return SelfTuning(Budget(steps=tuned_runs.STEPS), SelfTuningSettings(**tuned_runs.METHODS["self_tuning"]), 2)


@pytest.mark.full  # on the CPU it shows that the test works; what shares a processor is tested elsewhere
@pytest.mark.usefixtures("cluster")
def test_two_trainers_share_one_device(gpu, device, tmp_path):
    factory = TrainerFactory(tuned_runs.objective(), tuned_runs.HOOKS, device=device, steps=tuned_runs.STEPS)
    recorder = Remembered()
    reports = run_on_ray(
        method,
        factory,
        members=2,
        cpus=1,
        gpus=0.5 * gpu,
        folder=tmp_path,
        listener=recorder,
        space=factory(0).space,
    )
    assert sorted(reports) == [0, 1]
    assert all(report.training_step == tuned_runs.STEPS for report in reports.values())
    assert len(recorder.steps) >= 3
    assert all(bool(torch.isfinite(step.hypergradient).all()) for step in recorder.steps)
