"""Networks that follow schedules, each trained by several workers of Ray Train."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import ray
from ray.train import FailureConfig, RunConfig, ScalingConfig
from ray.train.torch import TorchConfig, TorchTrainer
from ray.train.v2.api.exceptions import TrainingFailedError

from selftune.methods import Report
from selftune.schedulers import slots
from selftune.schedulers.cluster import connected, quiet
from selftune.schedulers.environment import environment
from selftune.schedulers.errors import SchedulerError
from selftune.schedulers.replay_worker import KIND, RESULT, Job, Work, folder_of, train
from selftune.schedulers.served_folder import served
from selftune.storage.state_file import load_state
from selftune.training.team_run import NoTrainerLeft

_SAVE_EVERY = 30.0
"""Seconds between two saved states of a network: what is repeated at most when a worker dies."""
_LOOK_EVERY = 0.25
"""Seconds between two looks at how far the workers are."""
_END = 10.0
"""Seconds to wait for the end of what was stopped."""


def trained_together(
    jobs: Sequence[Job],
    *,
    workers: int,
    cpus: float,
    gpus: float,
    folder: Path,
    address: str | None = None,
    sharded: bool = False,
    watch: Callable[[int, Report], None] | None = None,
    save_every: float = _SAVE_EVERY,
) -> list[Report]:
    """Trains networks one after the other, each by all workers, which share every batch.

    If a worker dies, all of them start again from the last state, three times at most.

    Args:
        workers: how many.
        cpus, gpus: of each.
        folder: on this machine, for states and results meanwhile.
        address: of a running cluster; default ``RAY_ADDRESS``, else a cluster on this machine for this run.
        sharded: whether each worker holds a part of the weights only (FSDP).
        watch: hears the number of a network and each report of it, in this process; after the death of a worker
            some of them again.
        save_every: seconds between two saved states of a network.

    Returns:
        The last report of each network.

    Raises:
        SchedulerError: if the cluster has no room for the workers, or they fail again and again.
        NoTrainerLeft: if a network diverges.
        KeyboardInterrupt: after SIGINT; the workers have been ended.
    """
    place = folder.resolve()
    request = {"CPU": cpus, "GPU": gpus}
    try:
        with quiet(), connected(address):
            if slots.slots(request, workers=workers) < 1:
                raise SchedulerError(slots.shortage(request, 1, workers=workers))
            shutil.rmtree(place, ignore_errors=True)
            place.mkdir(parents=True)
            post: Any = ray.remote(num_cpus=0)(_Post).remote()
            with served(place) as files:
                work = Work(list(jobs), place, sharded, save_every, _Sender(post), files)
                _wait(_fit.remote(work, request, workers), post, watch or (lambda number, report: None))
        results = [load_state(folder_of(place, number) / RESULT, KIND) for number in range(len(jobs))]
    finally:
        shutil.rmtree(place, ignore_errors=True)
    for result in results:
        if result["report"] is None:
            raise NoTrainerLeft(result["message"])
    return [result["report"] for result in results]


class _Post:
    """An actor that keeps the reports of workers until the driver fetches them."""

    def __init__(self) -> None:
        self._kept: list[tuple[int, Report]] = []

    def put(self, number: int, report: Report) -> None:
        self._kept.append((number, report))

    def take(self) -> list[tuple[int, Report]]:
        kept, self._kept = self._kept, []
        return kept


class _Sender:
    """Sends reports to the driver, without the network that comes with the last one."""

    def __init__(self, post: Any) -> None:
        self._post = post

    def __call__(self, number: int, report: Report) -> None:
        if not getattr(report, "network", None):
            self._post.put.remote(number, report)


def _wait(fitting: Any, post: Any, watch: Callable[[int, Report], None]) -> None:
    """Waits for the workers and passes on what they report. If this process is stopped, so are they."""
    done: list[Any] = []
    try:
        while not done:
            done, _ = ray.wait([fitting], timeout=_LOOK_EVERY)
            for number, report in ray.get(post.take.remote()):
                watch(number, report)
        reason = ray.get(fitting)
    except ray.exceptions.RayError as error:
        raise SchedulerError(f"Ray Train has ended: {str(error).splitlines()[0]}") from error
    finally:
        if not done:
            ray.cancel(fitting)  # Ray Train answers as it does Ctrl-C: its controller ends the workers
            if not ray.wait([fitting], timeout=_END)[0]:
                ray.cancel(fitting, force=True)
        ray.kill(post)
    if reason:
        raise SchedulerError(f"the workers failed again and again: {reason}")


@ray.remote(num_cpus=0, max_retries=0)
def _fit(work: Work, request: dict[str, float], workers: int) -> str:
    """Trains all networks; returns why that failed, nothing if it did not.

    It runs in a process of its own, because the driver would lose its answer to Ctrl-C to Ray Train's.
    """
    trainer = TorchTrainer(
        train,
        train_loop_config={"work": work},
        torch_config=TorchConfig(backend="nccl" if request["GPU"] else "gloo"),
        scaling_config=ScalingConfig(
            num_workers=workers,
            use_gpu=bool(request["GPU"]),
            resources_per_worker={name: amount for name, amount in request.items() if amount},
        ),
        run_config=RunConfig(
            name="train",
            storage_path=str(work.folder),
            storage_filesystem=work.files,
            failure_config=FailureConfig(max_failures=3),
        ),
    )
    try:
        with quiet(), environment({"RAY_CHDIR_TO_TRIAL_DIR": "0"}):
            trainer.fit()
    except TrainingFailedError as error:
        return str(error).strip().splitlines()[-1]
    return ""
