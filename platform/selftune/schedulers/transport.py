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
from selftune.schedulers.opaque import Opaque

logger = logging.getLogger(__name__)

TransportName = Literal["auto", "direct", "mailbox"]


class Transport(ABC):
    """Takes orders to trials, and states from one trial to another without a stop at the driver.

    ``decision`` is what the scheduler answers to each result meanwhile.
    """

    decision: str

    def __init__(self) -> None:
        self._incarnations: dict[str, str] = {}

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_incarnations": {}}

    @abstractmethod
    def send(self, controller: Any, trial: Any, order: WorkOrder, state: Any = None) -> None:
        """An order for an idle trial, with what ``export`` returned for the state it starts from."""

    @abstractmethod
    def export(self, trial: Any, key: str) -> Any:
        """Asks an idle trial for a state that others start from; comes before its next order.

        Returns:
            What stands for the state; the state itself may still be on its way, and may never come.
        """

    def config(self) -> dict[str, Any]:
        """What the trainers have to know, an addition to the trial's config."""
        return {}

    def arrived(self, trial: Any, incarnation: str) -> bool:
        """The trial's trainer is ready; whether it has just (re)started."""
        new = self._incarnations.get(trial.trial_id) != incarnation
        self._incarnations[trial.trial_id] = incarnation
        return new

    def departed(self, trial: Any) -> None:  # noqa: B027  # Ray itself fails what a dead actor was asked for
        """The trial's trainer is gone, and answers nothing any more."""

    def forget(self, state: Any) -> None:  # noqa: B027  # Ray counts references itself
        """Nobody needs any more what ``export`` returned."""

    def checkpointed(self, controller: Any) -> None:  # noqa: B027  # Tune's own snapshots have to serve
        """A trial's checkpoint was registered."""


class DirectTransport(Transport):
    """A call of the trial's actor, in the place of Tune's own next one. Uses ``ray_internals``.

    The trial stays RUNNING and idle between two orders (``NOOP``). Never mix this with ``CONTINUE``: Tune
    drops one that follows a ``NOOP`` whose checkpoint is still being written, and the trial hangs.

    A state travels as a reference that the driver owns: it outlives the process it came from, which one that the
    trainer put itself would not. An order with a state comes in a call before Tune's: if the state's process dies
    too early, that call never happens; Tune's then finds no order, and the same trainer says a second time that it
    is ready.
    """

    decision = TrialScheduler.NOOP

    def send(self, controller: Any, trial: Any, order: WorkOrder, state: Any = None) -> None:
        if state is None:
            ray_internals.start_next_train(controller, trial, "carry_out", Opaque(order))
        else:
            ray_internals.actor_of(trial).receive.remote(Opaque(order), state)
            ray_internals.start_next_train(controller, trial)

    def export(self, trial: Any, key: str) -> Any:
        return ray_internals.actor_of(trial).export_state.remote(key)

    def checkpointed(self, controller: Any) -> None:
        ray_internals.snapshot(controller)


class MailboxTransport(Transport):
    """Trainers wait in ``step()`` for what is put into their slot of a mailbox. Public interface only.

    States travel through the mailbox, which keeps them for as long as orders may name them.
    """

    decision = TrialScheduler.CONTINUE

    def __init__(self) -> None:
        super().__init__()
        self.name = f"selftune-mailbox-{uuid.uuid4().hex}"
        self._mailbox: Any = None

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), "_mailbox": None}

    def config(self) -> dict[str, Any]:
        self._mailbox = self._mailbox or open_mailbox(self.name)
        return {"mailbox": self.name}

    def departed(self, trial: Any) -> None:
        self._mailbox.forget.remote(trial.trial_id)

    def send(self, controller: Any, trial: Any, order: WorkOrder, state: Any = None) -> None:
        self._mailbox.put.remote(trial.trial_id, self._incarnations[trial.trial_id], order, state)

    def export(self, trial: Any, key: str) -> Any:
        self._mailbox.request.remote(trial.trial_id, key)
        return trial.trial_id, key

    def forget(self, state: Any) -> None:
        self._mailbox.forget.remote(*state)


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
