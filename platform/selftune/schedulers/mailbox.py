"""A mailbox for orders: one slot per trial, read by its trainer, through Ray's public interface only."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any

import ray

from selftune.methods import WorkOrder


@dataclass(frozen=True)
class Delivery:
    """An order in a slot: ``number`` counts deliveries, ``incarnation`` is the trainer it is meant for."""

    number: int
    incarnation: str
    order: WorkOrder


class Slots:
    """The slots, an asynchronous actor.

    A slot keeps what was put last: a trainer that dies while it waits takes nothing with it, which a queue
    would not guarantee. What was put for a dead incarnation of a trainer is never given to the next one.
    """

    def __init__(self) -> None:
        self._slots: dict[str, Delivery] = {}
        self._count = 0
        self._changed = asyncio.Condition()

    async def put(self, trial: str, incarnation: str, order: WorkOrder) -> None:
        async with self._changed:
            self._slots[trial] = Delivery(self._count, incarnation, order)
            self._count += 1
            self._changed.notify_all()

    async def take(self, trial: str, incarnation: str, seen: int, seconds: float) -> Delivery | None:
        """The first delivery after ``seen`` for this incarnation; None if none came in time."""

        def new() -> bool:
            delivery = self._slots.get(trial)
            return delivery is not None and delivery.incarnation == incarnation and delivery.number > seen

        async with self._changed:
            try:
                await asyncio.wait_for(self._changed.wait_for(new), seconds)
            except TimeoutError:
                return None
            return self._slots[trial]


def open_mailbox(name: str) -> Any:
    """The handle of the mailbox of this name, which is created if there is none."""
    return ray.remote(Slots).options(name=name, num_cpus=0, get_if_exists=True).remote()


class Reader:
    """A trainer's end of the mailbox.

    ``next`` answers None every ``seconds`` without an order, so that a waiting trainer can still be stopped.
    """

    def __init__(self, name: str, trial: str, incarnation: str, seconds: float = 1.0) -> None:
        self._mailbox = ray.get_actor(name)
        self._trial = trial
        self._incarnation = incarnation
        self._seconds = seconds
        self._seen = -1

    def next(self) -> WorkOrder | None:
        waiting: Any = self._mailbox.take.remote(self._trial, self._incarnation, self._seen, self._seconds)
        delivery: Delivery | None = ray.get(waiting)
        if delivery is None:
            return None
        self._seen = delivery.number
        return delivery.order
