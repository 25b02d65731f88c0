"""A mailbox for orders: one slot per trial, read by its trainer, through Ray's public interface only."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import ray

from selftune.methods import WorkOrder

StateName = tuple[str, str]
"""A trial, and the key under which its trainer keeps a state."""


@dataclass(frozen=True)
class Delivery:
    """An order in a slot: ``number`` counts deliveries, ``incarnation`` is the trainer it is meant for.

    ``warm`` is the state to start from. While that is on its way from another trainer, ``awaits`` names it.
    """

    number: int
    incarnation: str
    order: WorkOrder
    warm: Any = None
    awaits: StateName | None = None


@dataclass(frozen=True)
class Request:
    """A trainer is asked for the state that it keeps under a key."""

    key: str


class Slots:
    """The slots, an asynchronous actor.

    A slot keeps what was put last: a trainer that dies while it waits takes nothing with it, which a queue
    would not guarantee. What was put for a dead incarnation of a trainer is never given to the next one. Requests
    stay, too, until they are answered; an order that waits for a state goes out cold if its trial is gone.
    """

    def __init__(self) -> None:
        self._slots: dict[str, Delivery] = {}
        self._states: dict[StateName, Any] = {}
        self._requests: dict[str, list[str]] = {}
        self._count = 0
        self._changed = asyncio.Condition()

    async def put(self, trial: str, incarnation: str, order: WorkOrder, warm: StateName | None = None) -> None:
        """An order; ``warm`` names the state that goes with it, which was requested before."""
        async with self._changed:
            awaits = warm if warm is not None and warm[1] in self._requests.get(warm[0], ()) else None
            state = None if warm is None else self._states.get(warm)
            self._slots[trial] = Delivery(self._count, incarnation, order, state, awaits)
            self._count += 1
            self._changed.notify_all()

    async def request(self, trial: str, key: str) -> None:
        """Asks a trial's trainer for a state, before it gets its next order."""
        async with self._changed:
            self._requests.setdefault(trial, []).append(key)
            self._changed.notify_all()

    async def answer(self, trial: str, key: str, state: Any) -> None:
        """The state that a request named; None if the trainer no longer has it."""
        async with self._changed:
            self._states[trial, key] = state
            if key in self._requests.get(trial, ()):
                self._requests[trial].remove(key)
            self._deliver((trial, key), state)

    async def forget(self, trial: str, key: str | None = None) -> None:
        """Nobody needs this state any more; without a key: a trial is gone, and answers no request."""
        async with self._changed:
            if key is not None:
                self._states.pop((trial, key), None)
                return
            for unanswered in self._requests.pop(trial, []):
                self._deliver((trial, unanswered), None)

    def _deliver(self, name: StateName, state: Any) -> None:
        for trial, delivery in self._slots.items():
            if delivery.awaits == name:
                self._slots[trial] = replace(delivery, warm=state, awaits=None)
        self._changed.notify_all()

    async def take(self, trial: str, incarnation: str, seen: int, seconds: float) -> Delivery | Request | None:
        """A request, else the first delivery after ``seen`` for this incarnation; None if none came in time."""

        def new() -> bool:
            if self._requests.get(trial):
                return True
            delivery = self._slots.get(trial)
            if delivery is None or delivery.awaits is not None:
                return False
            return delivery.incarnation == incarnation and delivery.number > seen

        async with self._changed:
            try:
                await asyncio.wait_for(self._changed.wait_for(new), seconds)
            except TimeoutError:
                return None
            requests = self._requests.get(trial)
            return Request(requests[0]) if requests else self._slots[trial]


def open_mailbox(name: str) -> Any:
    """The handle of the mailbox of this name, which is created if there is none."""
    return ray.remote(Slots).options(name=name, num_cpus=0, get_if_exists=True).remote()


class Reader:
    """A trainer's end of the mailbox.

    ``next`` answers None every ``seconds`` without an order, so that a waiting trainer can still be stopped.

    Args:
        name: of the mailbox.
        trial, incarnation: whose orders are read.
        export: the trainer's state under a key, for others to start from.
        seconds: see above.
    """

    def __init__(
        self, name: str, trial: str, incarnation: str, export: Callable[[str], Any], seconds: float = 1.0
    ) -> None:
        self._mailbox = ray.get_actor(name)
        self._trial = trial
        self._incarnation = incarnation
        self._export = export
        self._seconds = seconds
        self._seen = -1

    def next(self) -> Delivery | None:
        while True:
            waiting: Any = self._mailbox.take.remote(self._trial, self._incarnation, self._seen, self._seconds)
            item: Delivery | Request | None = ray.get(waiting)
            if isinstance(item, Request):
                ray.get(self._mailbox.answer.remote(self._trial, item.key, self._export(item.key)))
                continue
            if item is not None:
                self._seen = item.number
            return item
