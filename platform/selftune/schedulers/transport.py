"""How a work order gets to a trial that is already running, without checkpoint and restart."""

from __future__ import annotations

import logging
import uuid
from abc import ABC, abstractmethod
from typing import Any, Literal

from ray.tune.schedulers import TrialScheduler

from selftune.methods import WorkOrder
from selftune.schedulers import ray_internals
from selftune.schedulers.errors import SchedulerError
from selftune.schedulers.mailbox import open_mailbox

logger = logging.getLogger(__name__)

TransportName = Literal["auto", "direct", "mailbox"]


class Transport(ABC):
    """Takes orders to trials; ``decision`` is what the scheduler answers to each result meanwhile."""

    decision: str

    @abstractmethod
    def send(self, controller: Any, trial: Any, order: WorkOrder) -> None: ...

    def config(self) -> dict[str, Any]:
        """What the trainers have to know, an addition to the trial's config."""
        return {}

    def arrived(self, trial: Any, incarnation: str) -> None:  # noqa: B027  # of interest to the mailbox only
        """The trial's trainer has (re)started."""

    def checkpointed(self, controller: Any) -> None:  # noqa: B027  # Tune's own snapshots have to serve
        """A trial's checkpoint was registered."""


class DirectTransport(Transport):
    """Two calls to the trial's actor: here is the order, now train. Uses ``ray_internals``.

    The trial stays RUNNING and idle between two orders (``NOOP``). Never mix this with ``CONTINUE``: Tune
    drops one that follows a ``NOOP`` whose checkpoint is still being written, and the trial hangs.
    """

    decision = TrialScheduler.NOOP

    def send(self, controller: Any, trial: Any, order: WorkOrder) -> None:
        ray_internals.actor_of(trial).receive.remote(order)
        ray_internals.start_next_train(controller, trial)

    def checkpointed(self, controller: Any) -> None:
        ray_internals.snapshot(controller)


class MailboxTransport(Transport):
    """Trainers wait in ``step()`` for what is put into their slot of a mailbox. Public interface only."""

    decision = TrialScheduler.CONTINUE

    def __init__(self) -> None:
        self.name = f"selftune-mailbox-{uuid.uuid4().hex}"
        self._mailbox: Any = None
        self._incarnations: dict[str, str] = {}

    def __getstate__(self) -> dict[str, Any]:
        return {"name": self.name, "_mailbox": None, "_incarnations": {}}

    def config(self) -> dict[str, Any]:
        self._mailbox = self._mailbox or open_mailbox(self.name)
        return {"mailbox": self.name}

    def arrived(self, trial: Any, incarnation: str) -> None:
        self._incarnations[trial.trial_id] = incarnation

    def send(self, controller: Any, trial: Any, order: WorkOrder) -> None:
        self._mailbox.put.remote(trial.trial_id, self._incarnations[trial.trial_id], order)


def make_transport(name: TransportName) -> Transport:
    """The transport of this name; ``"auto"`` is direct on a version of Ray that is known, else the mailbox.

    Raises:
        SchedulerError: if the direct transport is asked for and this Ray is another one.
    """
    if name == "mailbox":
        return MailboxTransport()
    if name not in ("auto", "direct"):
        raise SchedulerError(f"transport must be 'auto', 'direct' or 'mailbox', got {name!r}")
    problem = ray_internals.problem()
    if problem is None:
        return DirectTransport()
    if name == "direct":
        raise SchedulerError(f"{problem}, or set transport to 'mailbox'")
    logger.warning("%s; until then the slower mailbox transport is used", problem)
    return MailboxTransport()
