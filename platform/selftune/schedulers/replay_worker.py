"""What each worker of Ray Train does where several train networks that follow schedules."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch.distributed as dist

from selftune.listener import Listener
from selftune.methods import Replay, Report, Segment
from selftune.storage.checked_json import read_json, write_json
from selftune.storage.state_file import save_state
from selftune.training.process_group import ALONE, DataParallelGroup, ProcessGroup
from selftune.training.team_run import NoTrainerLeft, TeamRun
from selftune.training.trainer import TrainerFactory

RESULT, KIND = "result.safetensors", "replayed"
_LATEST = "latest.json"


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


@dataclass(frozen=True)
class Work:
    """What the workers have to do.

    Args:
        jobs: the networks, one after the other.
        folder: for states and results.
        sharded: whether each worker holds a part of the weights only.
        save_every: seconds between two saved states of a network.
        tell: hears the number of a network and every report of it.
    """

    jobs: Sequence[Job]
    folder: Path
    sharded: bool
    save_every: float
    tell: Callable[[int, Report], None]


def folder_of(place: Path, number: int) -> Path:
    return place / f"network-{number}"


def train(config: dict[str, Any]) -> None:
    """Trains all networks of the config's ``work``, together with the other workers."""
    work: Work = config["work"]
    group = DataParallelGroup() if dist.get_world_size() > 1 else ALONE
    for number in range(len(work.jobs)):
        report, message = _trained(work, number, group)
        if group.rank == 0:
            save_state(folder_of(work.folder, number) / RESULT, {"report": report, "message": message}, KIND)
        if group is not ALONE:
            dist.barrier()  # nobody goes on where another one may have to come back


class _Told(Listener):
    def __init__(self, tell: Callable[[Report], None]) -> None:
        self._tell = tell

    def reported(self, member: int, report: Report) -> None:
        self._tell(report)


def _trained(work: Work, number: int, group: ProcessGroup) -> tuple[Report | None, str]:
    """A network's last report, or why there is none."""
    job, folder = work.jobs[number], folder_of(work.folder, number)
    os.makedirs(folder, exist_ok=True)
    trainer = job.factory(0)
    sharded = work.sharded and group is not ALONE
    trainer.share(group, sharded)
    listener = _Told(lambda report: work.tell(number, report)) if group.rank == 0 else None
    run = TeamRun(job.method(), {0: trainer}, listener)
    state = _OfAll(folder, group.rank) if sharded else _OfFirst(folder, group.rank)
    state.restore(run)
    if group is not ALONE:
        dist.barrier()  # before somebody saves again
    run.join()
    saved = time.monotonic()
    try:
        while not run.done:
            run.round()
            if group.first_says(time.monotonic() - saved > work.save_every):
                state.save(run)
                saved = time.monotonic()
    except NoTrainerLeft as error:
        return None, str(error)
    return run.last[0], ""


@dataclass(frozen=True)
class _OfFirst:
    """The state of workers that are all in the same: the first one saves it."""

    folder: Path
    rank: int

    def save(self, run: TeamRun) -> None:
        if self.rank == 0:
            run.save(self.folder)

    def restore(self, run: TeamRun) -> None:
        run.restore(self.folder)


@dataclass(frozen=True)
class _OfAll:
    """The state of workers of which each has a part: it counts once all have saved theirs."""

    folder: Path
    rank: int

    def save(self, run: TeamRun) -> None:
        place = self.folder / f"state-{run.training_step}"
        run.save(self._own(place.name))
        dist.barrier()
        if self.rank == 0:
            write_json(self.folder / _LATEST, {"state": place.name})
            for other in self.folder.glob("state-*"):
                if other != place:
                    shutil.rmtree(other)

    def restore(self, run: TeamRun) -> None:
        try:
            latest: dict[str, Any] = read_json(self.folder / _LATEST)
        except FileNotFoundError:
            return
        run.restore(self._own(latest["state"]))

    def _own(self, state: str) -> Path:
        return self.folder / state / f"worker-{self.rank}"
