"""Networks that follow schedules, each trained by several workers of Ray Train."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch.distributed as dist
from ray.train import FailureConfig, RunConfig, ScalingConfig
from ray.train.torch import TorchConfig, TorchTrainer
from ray.train.v2.api.exceptions import TrainingFailedError

from selftune.methods import Replay, Report, Segment
from selftune.schedulers import slots
from selftune.schedulers.cluster import connected, quiet
from selftune.schedulers.errors import SchedulerError
from selftune.storage.state_file import load_state, save_state
from selftune.training.process_group import ALONE, DataParallelGroup
from selftune.training.team_run import NoTrainerLeft, TeamRun
from selftune.training.trainer import TrainerFactory

_SAVE_EVERY = 30.0
"""Seconds between two saved states of a network: what is repeated at most when a worker dies."""
_RESULT, _KIND = "result.safetensors", "replayed"


@dataclass(frozen=True)
class Job:
    """A network to be trained.

    Args:
        factory: makes its trainer.
        schedule: what hyperparameters do.
    """

    factory: TrainerFactory
    schedule: Sequence[Segment]

    def method(self) -> Replay:
        return Replay(self.schedule, self.schedule[-1].training_step)


def trained_together(
    jobs: Sequence[Job], *, workers: int, cpus: float, gpus: float, folder: Path, address: str | None = None
) -> list[Report]:
    """Trains networks one after the other, each by all workers, which share every batch.

    If a worker dies, all of them start again from the last state, three times at most.

    Args:
        workers: how many.
        cpus, gpus: of each.
        folder: for states and results meanwhile; with a cluster of several nodes, storage that all of them reach.
        address: of a running cluster; default ``RAY_ADDRESS``, else a cluster on this machine for this run.

    Returns:
        The last report of each network.

    Raises:
        SchedulerError: if the cluster has no room for the workers, or they fail again and again.
        NoTrainerLeft: if a network diverges.
    """
    place = folder.resolve()
    request = {"CPU": cpus, "GPU": gpus}
    with quiet(), connected(address):
        if slots.slots(request, workers=workers) < 1:
            raise SchedulerError(slots.shortage(request, 1, workers=workers))
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir(parents=True)
        trainer = TorchTrainer(
            _train,
            train_loop_config={"jobs": list(jobs), "folder": str(place)},
            torch_config=TorchConfig(backend="nccl" if gpus else "gloo"),
            scaling_config=ScalingConfig(
                num_workers=workers,
                use_gpu=bool(gpus),
                resources_per_worker={name: amount for name, amount in request.items() if amount},
            ),
            run_config=RunConfig(
                name="train", storage_path=str(place), failure_config=FailureConfig(max_failures=3)
            ),
        )
        try:
            trainer.fit()
        except TrainingFailedError as error:
            reason = str(error).strip().splitlines()[-1]
            raise SchedulerError(f"the workers failed again and again: {reason}") from error
    results = [load_state(_folder_of(place, number) / _RESULT, _KIND) for number in range(len(jobs))]
    shutil.rmtree(place, ignore_errors=True)
    for result in results:
        if result["report"] is None:
            raise NoTrainerLeft(result["message"])
    return [result["report"] for result in results]


def _folder_of(place: Path, number: int) -> Path:
    return place / f"network-{number}"


def _train(config: dict[str, Any]) -> None:
    """What each worker does."""
    group = DataParallelGroup() if dist.get_world_size() > 1 else ALONE
    for number, job in enumerate(config["jobs"]):
        folder = _folder_of(Path(config["folder"]), number)
        report, message = _trained(job, group, folder)
        if group.rank == 0:
            save_state(folder / _RESULT, {"report": report, "message": message}, _KIND)
        if group is not ALONE:
            dist.barrier()  # nobody goes on where another one may have to come back


def _trained(job: Job, group: Any, folder: Path) -> tuple[Report | None, str]:
    """A network's last report, or why there is none."""
    os.makedirs(folder, exist_ok=True)
    trainer = job.factory(0)
    trainer.share(group)
    run = TeamRun(job.method(), {0: trainer})
    run.restore(folder)
    if group is not ALONE:
        dist.barrier()  # before the first one saves again
    run.join()
    saved = time.monotonic()
    try:
        while not run.done:
            run.round()
            if group.rank == 0 and time.monotonic() - saved > _SAVE_EVERY:
                run.save(folder)
                saved = time.monotonic()
    except NoTrainerLeft as error:
        return None, str(error)
    return run.last[0], ""
