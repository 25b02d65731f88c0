"""What each worker of Ray Train does where several train networks that follow schedules."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from pyarrow.fs import FileSelector, FileSystem, LocalFileSystem, copy_files

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
        folder: for states and results, on the driver's machine.
        sharded: whether each worker holds a part of the weights only.
        save_every: seconds between two saved states of a network.
        tell: hears the number of a network and every report of it.
        files: the file system by which workers reach the folder; None for their own disk.
    """

    jobs: Sequence[Job]
    folder: Path
    sharded: bool
    save_every: float
    tell: Callable[[int, Report], None]
    files: FileSystem | None = None


def folder_of(place: Path, number: int) -> Path:
    return place / f"network-{number}"


def train(config: dict[str, Any]) -> None:
    """Trains all networks of the config's ``work``, together with the other workers."""
    work: Work = config["work"]
    group = DataParallelGroup() if dist.get_world_size() > 1 else ALONE
    for number in range(len(work.jobs)):
        report, message = _trained(work, number, group)
        if group.rank == 0:
            _state(work, number, group).end({"report": report, "message": message})
        if group is not ALONE:
            dist.barrier()  # nobody goes on where another one may have to come back


def _is_sharded(work: Work, group: ProcessGroup) -> bool:
    return work.sharded and group is not ALONE


def _state(work: Work, number: int, group: ProcessGroup) -> _State:
    return _State(
        work.files or LocalFileSystem(), folder_of(work.folder, number), group.rank, _is_sharded(work, group)
    )


class _Told(Listener):
    def __init__(self, tell: Callable[[Report], None]) -> None:
        self._tell = tell

    def reported(self, member: int, report: Report) -> None:
        self._tell(report)


def _trained(work: Work, number: int, group: ProcessGroup) -> tuple[Report | None, str]:
    """A network's last report, or why there is none."""
    job = work.jobs[number]
    trainer = job.factory(0)
    trainer.share(group, _is_sharded(work, group))
    listener = _Told(lambda report: work.tell(number, report)) if group.rank == 0 else None
    run = TeamRun(job.method(), {0: trainer}, listener)
    state = _state(work, number, group)
    state.restore(run)
    if group is not ALONE:
        dist.barrier()  # before somebody saves again
    run.join()
    saved = time.monotonic()
    try:
        while not run.done:
            run.round()
            due = torch.tensor([time.monotonic() - saved > work.save_every], device=trainer.device)
            group.same_buffers([due])  # as the first one says
            if due.item():
                state.save(run)
                saved = time.monotonic()
    except NoTrainerLeft as error:
        return None, str(error)
    return run.last[0], ""


@dataclass(frozen=True)
class _State:
    """What the workers go on from: the state of the first one, in which all are, or a part of each."""

    files: FileSystem
    folder: Path
    rank: int
    sharded: bool

    def save(self, run: TeamRun) -> None:
        name = f"state-{run.training_step}"
        if self.sharded or self.rank == 0:
            with tempfile.TemporaryDirectory() as made:
                run.save(Path(made))
                self._bring(Path(made), self._own(name))
        if self.sharded:
            dist.barrier()  # it counts once all have saved theirs
        if self.rank == 0:
            with tempfile.TemporaryDirectory() as made:
                write_json(Path(made, _LATEST), {"state": name})
                self._bring(Path(made), self.folder)
            for other in self.files.get_file_info(FileSelector(str(self.folder))):
                if other.base_name.startswith("state-") and other.base_name != name:
                    self.files.delete_dir(other.path)

    def restore(self, run: TeamRun) -> None:
        if not self.files.get_file_info(str(self.folder / _LATEST)).is_file:
            return
        with tempfile.TemporaryDirectory() as made:
            self._fetch(self.folder / _LATEST, Path(made, _LATEST))
            latest: dict[str, Any] = read_json(Path(made, _LATEST))
            state = Path(made, "state")
            state.mkdir()
            self._fetch(self._own(latest["state"]), state)
            run.restore(state)

    def end(self, result: dict[str, Any]) -> None:
        """Keeps the result of a network, for the driver."""
        with tempfile.TemporaryDirectory() as made:
            save_state(Path(made, RESULT), result, KIND)
            self._bring(Path(made), self.folder)

    def _own(self, state: str) -> Path:
        return self.folder / state / f"worker-{self.rank if self.sharded else 0}"

    def _bring(self, made: Path, there: Path) -> None:
        self.files.create_dir(str(there), recursive=True)
        copy_files(str(made), str(there), destination_filesystem=self.files)

    def _fetch(self, there: Path, here: Path) -> None:
        copy_files(str(there), str(here), source_filesystem=self.files)
