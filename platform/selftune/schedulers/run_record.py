"""What a study's driver knows, in files of our own: a killed study goes on from them, and nothing is unpickled."""

from __future__ import annotations

import os
import shutil
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from selftune.hyperparameters import Space
from selftune.methods import WorkOrder
from selftune.schedulers import ray_internals
from selftune.schedulers.callback import StateCallback
from selftune.schedulers.errors import refuse_earlier
from selftune.schedulers.order_log import OrderLog, read_logs
from selftune.schedulers.team import Member
from selftune.schedulers.trainable import KEPT_CHECKPOINTS
from selftune.storage.kept_state import KeptState

if TYPE_CHECKING:
    from selftune.schedulers.scheduler import BilevelScheduler

KIND = "record"
_EVERY = {True: 10.0, False: 1.0}
"""Seconds between two records without a new checkpoint, by whether trainers go on from checkpoints."""
_SHARE = 0.01  # of the driver's time, at most, goes into records, unless one is urgent


@dataclass(frozen=True)
class RunState:
    """What a record holds.

    Args:
        run: number of the driver that wrote it; each one has a folder of Tune's of its own.
        scheduler: state of the scheduler with its one team.
        checkpoints: folder of the last checkpoint of each member that has one.
        orders: where its members' logs are.
    """

    run: int
    scheduler: Mapping[str, Any]
    checkpoints: Mapping[int, Path]
    orders: Mapping[str, Any]

    @property
    def open_members(self) -> list[int]:
        """Members that have something left to do."""
        return [member for member, entry in self._members.items() if not entry.over]

    @property
    def at_work(self) -> list[int]:
        """Those of them that have been there, and that their team waits for."""
        return [member for member in self.open_members if self._members[member].joined]

    @property
    def logs(self) -> dict[int, list[WorkOrder]]:
        """Orders that each member may have to do again."""
        return {member: entry.log for member, entry in self._members.items()}

    @property
    def _members(self) -> Mapping[int, Member]:
        [team] = self.scheduler["teams"]
        members: Mapping[int, Member] = team["members"]
        return members


class RunRecord(StateCallback):
    """Writes the record of a study whenever a trainer has saved a checkpoint, and every now and then without one.

    The record and the checkpoints that it names suffice to go on: Tune's own files serve the run that wrote them,
    and no other, so that the scheduler's state does not go into them.

    Args:
        folder: of the records, with Tune's folders below.
        scheduler: that of the study.
        space: the study's hyperparameters; reader and writer have them, so that no file holds them.
        state: what the driver before this one left, if there was one.
    """

    def __init__(
        self, folder: Path, scheduler: BilevelScheduler, space: Space, state: RunState | None = None
    ) -> None:
        super().__init__(scheduler)
        self._folder, self._space = folder, space
        self._kept = KeptState(folder, KIND, KIND)
        self._run = 0 if state is None else state.run + 1
        self._checkpoints = {} if state is None else dict(state.checkpoints)
        self._trains = () if state is None else tuple(state.open_members)
        self._unrecorded: Counter[int] = Counter()  # checkpoints of each member since the last record
        self._next, self._free_at = 0.0, 0.0
        given = {"space": space}
        if state is None:
            self._orders = OrderLog(folder, given)
        else:
            self._orders = OrderLog(folder, given, state.orders, state.logs)
        self._old = [path for path in run_folders(folder) if path.name != self.run_name]

    @property
    def run_name(self) -> str:
        """The name of this driver's folder of Tune's."""
        return f"run-{self._run}"

    @property
    def files(self) -> list[Path]:
        """The files from which the next driver would go on, beside checkpoints."""
        return [self._kept.path, *self._orders.paths]

    def get_state(self) -> dict[str, Any]:
        return {}

    def on_trial_save(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self._scheduler.on_checkpoint(trial, snapshot=False)
        saved = trial.latest_checkpoint_result
        if saved is not None:
            member = self._scheduler.member_of(trial)
            self._checkpoints[member] = Path(saved.checkpoint.path)
            self._unrecorded[member] += 1
            ray_internals.forget_failures(trial)  # in days it dies more often than Tune allows

    def on_step_end(self, iteration: int, trials: list[Any], **info: Any) -> None:
        now = time.monotonic()
        # what the last record names is there as long as a member has not saved KEPT_CHECKPOINTS more
        is_urgent = max(self._unrecorded.values(), default=0) >= KEPT_CHECKPOINTS - 1
        if is_urgent or now >= (self._free_at if self._unrecorded else max(self._next, self._free_at)):
            self.write()

    def on_experiment_end(self, trials: list[Any], **info: Any) -> None:
        self.write()
        super().on_experiment_end(trials, **info)

    def write(self) -> None:
        """Writes the record; the one that is there is kept as the one before."""
        if not self._scheduler.teams:
            return
        began = time.monotonic()
        scheduler = self._scheduler.state_dict()
        [team] = scheduler["teams"]
        members: Mapping[int, Member] = team["members"]
        state = {
            "run": self._run,
            "scheduler": {**scheduler, "teams": [{**team, "members": _without_logs(members)}]},
            "checkpoints": {m: os.path.relpath(path, self._folder) for m, path in self._checkpoints.items()},
            "orders": self._orders.write({member: entry.log for member, entry in members.items()}),
        }
        self._kept.save(state, {"space": self._space})
        self._orders.forget()
        self._unrecorded.clear()
        ended = time.monotonic()
        self._next = ended + _EVERY[self._scheduler.teams[0].method.stateful]
        self._free_at = ended + (ended - began) * (1 / _SHARE - 1)
        self._forget_old()

    def _forget_old(self) -> None:
        """Removes folders of drivers before this one, once no record names a checkpoint in them."""
        members = self._scheduler.teams[0].members
        if not self._old or not all(
            self._is_own(m) for m in self._trains if members[m].joined and members[m].lost is None
        ):
            return
        self._kept.before.unlink(missing_ok=True)
        for path in self._old:
            shutil.rmtree(path, ignore_errors=True)
        self._old = []

    def _is_own(self, member: int) -> bool:
        path = self._checkpoints.get(member)
        return path is not None and path.is_relative_to(self._folder / self.run_name)


def _without_logs(members: Mapping[int, Member]) -> dict[int, Member]:
    return {member: replace(entry, log=[]) for member, entry in members.items()}


def run_folders(folder: Path) -> list[Path]:
    """Tune's folders of all drivers, below that of the records."""
    return sorted(folder.glob("run-*"))


def read_record(folder: Path, space: Space) -> RunState | None:
    """What the last driver left; what the one before left where that is damaged, and None if there is nothing.

    Raises:
        DamagedFile: if neither can be read.
        SchedulerError: if an earlier version of selftune ran here.
    """
    refuse_earlier(folder, "study")
    given = {"space": space}

    def with_logs(state: dict[str, Any]) -> dict[str, Any]:
        [team] = state["scheduler"]["teams"]
        for member, log in read_logs(folder, given, state["orders"]).items():
            team["members"][member].log = log
        return state

    state = KeptState(folder, KIND, KIND).load(given, with_logs)
    if state is None:
        return None
    checkpoints = {member: folder / path for member, path in state["checkpoints"].items()}
    return RunState(state["run"], state["scheduler"], checkpoints, state["orders"])
