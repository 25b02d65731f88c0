"""A network that follows a schedule by several workers of Ray Train is that of one process."""

import time

import gang_fakes
import pytest
import ray
import torch
from full_matrix import first_of
from gang_fakes import MortalWorkers
from gang_study import STUDY, alone
from ray import cloudpickle

from selftune.methods import Replay, Segment
from selftune.schedulers import SchedulerError, served_folder
from selftune.schedulers.replay_worker import Job
from selftune.schedulers.trained_together import trained_together
from selftune.training import run_in_process

cloudpickle.register_pickle_by_value(gang_fakes)  # workers do not see this folder


def schedule():
    kept, _ = alone()
    return [Segment(step.training_step, step.hyperparameters) for step in kept.steps]


@pytest.mark.timeout(400)  # Ray Train starts more processes than Tune does
@pytest.mark.parametrize(
    "strategy", first_of(["fsdp", "ddp", "ddp, one dies", "fsdp, one dies", "fsdp, one dies elsewhere"])
)
def test_two_workers_are_one_process(strategy, cluster, tmp_path, monkeypatch):
    """Also if one of them dies: then all go on from the last state. Workers elsewhere do not see the folder."""
    if "elsewhere" in strategy:
        monkeypatch.setattr(served_folder, "_mark", lambda folder, token: tmp_path / "where nobody else looks")
    dies, sharded = 1 if "dies" in strategy else None, "fsdp" in strategy
    plan, factory, marker, heard = schedule(), STUDY.strategy.trainers(), tmp_path / "died", []
    given = factory if dies is None else MortalWorkers(factory, marker, dies, number=1)
    (report,) = trained_together(
        [Job(given, plan)],
        workers=2,
        cpus=1,
        gpus=0,
        folder=tmp_path / "run",
        sharded=sharded,
        watch=lambda number, report: heard.append((number, report.training_step)),
        save_every=0,
    )
    assert marker.exists() == (dies is not None)
    assert heard == [(0, 30)]  # the 30 steps are not done again
    one = run_in_process(Replay(plan, plan[-1].training_step), {0: factory(0)})[0]
    assert report.metrics["test_loss"] == pytest.approx(one.metrics["test_loss"], rel=1e-4)
    for name, tensor in one.network.items():
        torch.testing.assert_close(report.network[name], tensor, rtol=0, atol=1e-4)
    assert not (tmp_path / "run").exists()


@pytest.mark.full
@pytest.mark.timeout(400)
def test_who_is_stopped_ends_the_workers(cluster, tmp_path):
    plan = [Segment(100_000, STUDY.space.constrain(STUDY.space.start))]

    def interrupt(number, report):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        trained_together(
            [Job(STUDY.strategy.trainers(), plan)],
            workers=2,
            cpus=1,
            gpus=0,
            folder=tmp_path / "run",
            watch=interrupt,
        )
    assert not (tmp_path / "run").exists()
    deadline = time.monotonic() + 60
    while ray.available_resources().get("CPU", 0) < 2:
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_workers_without_room_are_refused(cluster, tmp_path):
    job = Job(STUDY.strategy.trainers(), [Segment(1, STUDY.space.constrain(STUDY.space.start))])
    words = "asked for 1 trainer of 3 workers with 1 cpu each, the cluster has 2"
    with pytest.raises(SchedulerError, match=words):
        trained_together([job], workers=3, cpus=1, gpus=0, folder=tmp_path / "run")
    assert not (tmp_path / "run").exists()
