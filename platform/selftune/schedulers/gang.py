"""A trainer of several workers: processes that train one network together, and stay alive between orders."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import ray
import torch.distributed as dist
from torch._C._distributed_c10d import Store

from selftune.errors import SettingError
from selftune.hyperparameters import Space
from selftune.logs import WorkerLog
from selftune.methods import Report, WorkOrder
from selftune.schedulers.bundles import actor_in_bundle, bundles
from selftune.schedulers.meeting import Meeting, listening_store
from selftune.schedulers.meeting_folder import MeetingFolder
from selftune.training.team_run import Executes
from selftune.training.trainer import Trainer

logger = logging.getLogger(__name__)

_GRACE = 10.0
"""Seconds in which the first worker should notice by itself that another one is gone."""


class Worker:
    """An actor with one of a trainer's workers, other than the first."""

    def __init__(self, rank: int) -> None:
        self._rank = rank
        self._trainer: Trainer

    def node(self) -> str:
        """The id of the node it is on."""
        return str(ray.get_runtime_context().get_node_id())

    def begin(
        self, make: Callable[[], Trainer], meeting: Meeting, log: WorkerLog | None, name: str, member: int
    ) -> None:
        if log is not None:
            log.open(f"{name}-worker-{self._rank}", None, member)
        logger.info("begins as worker %d, in process %d", self._rank, os.getpid())
        self._trainer = make()
        self._trainer.share(meeting.join(self._rank, _address()))

    def execute(self, order: WorkOrder, warm: Any) -> None:
        try:
            self._trainer.execute(order, warm)
        except Exception:
            logger.exception("worker %d fails, and its trainer with it", self._rank)
            os._exit(1)  # the others wait in the middle of a step: they see that it is gone

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._trainer.load_state_dict(state)


class Gang:
    """A trainer whose orders several workers carry out together.

    The first one is in the process of the trial, the others are actors in the bundles of its placement group. All
    get every order; the first reports and is saved. If another one dies, an order fails here, or this process
    ends; Tune starts the trial again, with new workers.

    Args:
        make: makes the trainer of one worker; picklable.
        workers: how many, 2 at least.
        log: where the others log; None where they do not.
        name: of the trial in the names of their logs.
        member: of the team.

    Raises:
        SettingError: if the trial has fewer bundles, or its trainer cannot be shared.
    """

    def __init__(
        self, make: Callable[[], Executes], workers: int, log: WorkerLog | None, name: str, member: int
    ) -> None:
        there = bundles()
        if there < workers:
            raise SettingError(
                "workers",
                f"is {workers}, but the trial has resources for {there}; give it a bundle for each:"
                f" tune.PlacementGroupFactory([{{'CPU': 1}}] * {workers})",
            )
        self._workers = [actor_in_bundle(Worker, rank, rank) for rank in range(1, workers)]
        self._folder: MeetingFolder | None = None
        self._own = _shared(make())  # refuses what is wrong while the others start
        self.space: Space = self._own.space
        try:
            self._meet(make, log, name, member)
        except BaseException:
            self._clear()
            raise

    def _meet(self, make: Callable[[], Executes], log: WorkerLog | None, name: str, member: int) -> None:
        nodes = ray.get([worker.node.remote() for worker in self._workers])
        meeting, store = self._meeting(nodes, len(self._workers) + 1)
        made = ray.put(make)
        begun = [worker.begin.remote(made, meeting, log, name, member) for worker in self._workers]
        arguments = (begun, joined := threading.Event(), self._clear)
        threading.Thread(target=_watch, args=arguments, daemon=True).start()
        self._own.share(meeting.join(0, _address(), store))
        joined.set()
        ray.get(begun)
        if meeting.backend == "gloo":  # all are connected; nccl connects at the first step
            self._clear()

    def _meeting(self, nodes: Sequence[str], workers: int) -> tuple[Meeting, Store | None]:
        backend = "nccl" if self._own.device.type == "cuda" else "gloo"
        if set(nodes) == {ray.get_runtime_context().get_node_id()}:
            self._folder = MeetingFolder()
            return Meeting(workers, backend, file=str(self._folder.path / "meeting")), None
        store = listening_store(_address(), workers)
        return Meeting(workers, backend, host=_address(), port=store.port), store

    def execute(self, order: WorkOrder, warm: Any = None) -> Report:
        given = ray.put(warm) if warm is not None else None
        done = [worker.execute.remote(order, given) for worker in self._workers]
        over = threading.Event()
        threading.Thread(target=_watch, args=(done, over, self._clear), daemon=True).start()
        try:
            report = self._own.execute(order, warm)
        except RuntimeError as error:
            gone = _gone(done) if isinstance(error, dist.DistError) or "gloo" in str(error) else None
            if gone is None:  # an error of its own, which the others have, too
                raise
            raise gone from error
        finally:
            over.set()
        ray.get(done)
        return report

    def export_state(self, key: str) -> Any:
        return self._own.export_state(key)

    def state_dict(self) -> dict[str, Any]:
        return self._own.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        sent = ray.put(dict(state))
        loaded = [worker.load_state_dict.remote(sent) for worker in self._workers]
        self._own.load_state_dict(state)
        ray.get(loaded)

    def end(self) -> None:
        """Ends the other workers."""
        for worker in self._workers:
            ray.kill(worker)
        self._clear()

    def _clear(self) -> None:
        if self._folder is not None:
            self._folder.remove()


def _address() -> str:
    """Of this process's node, as the others reach it."""
    return str(ray.util.get_node_ip_address())  # type: ignore[no-untyped-call]


def _shared(trainer: Any) -> Trainer:
    if not isinstance(trainer, Trainer):
        raise SettingError("workers", f"must be 1 for a {type(trainer).__name__}, which is one process")
    return trainer


def _gone(awaited: Sequence[Any]) -> RuntimeError | None:
    """The error of the first worker that is gone, which says more than that nobody answers."""
    for rank, reference in enumerate(awaited, start=1):
        try:
            ray.get(reference, timeout=_GRACE)
        except ray.exceptions.GetTimeoutError:
            continue
        except ray.exceptions.RayError as error:
            lines = [line.strip() for line in str(error).splitlines()]
            words = next((line for line in lines if "memory" in line), lines[0])
            return RuntimeError(f"worker {rank} of the trainer died: {words}")
    return None


def _watch(awaited: Sequence[Any], over: threading.Event, clear: Callable[[], None]) -> None:
    """Ends this process if another worker is gone, and this one waits for it in the middle of a step.

    With gloo it notices by itself; with nccl it would wait on.
    """
    try:
        ray.get(list(awaited))
    except ray.exceptions.RayError as error:
        if not over.wait(_GRACE):
            logger.error("another worker of this trainer is gone: %s", error)
            clear()
            os._exit(1)
