"""A team: one method, its trainers, and the orders between them. Knows nothing of Ray."""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from selftune.hyperparameters import Space
from selftune.listener import Listener, Place
from selftune.methods import HyperStep, Method, Report, WorkOrder
from selftune.methods.reports import Diverged, Finished, StateMissing
from selftune.methods.team_method import CANNOT_GROW
from selftune.methods.work_orders import Finish
from selftune.schedulers.errors import SchedulerError
from selftune.storage.state_tree import record
from selftune.training.state_store import StateStore

_NO_ROOM = "the cluster had no room for it before the others had come to their end"
_CANNOT_REPEAT = "it was to do order {} once more, and nobody keeps the state any more from which that starts"
_LEFT_OUT = "there is no room for it any more; the others go on without it until there is"


@record
@dataclass
class Member:
    """What is known of one trainer.

    Args:
        issued: number of the last order that the method gave.
        told: number of the last report that the method was told.
        log: orders that a restarted trainer may have to do again, oldest first.
        saved: orders done at each of the trainer's last checkpoints, oldest first.
        final: the report of its last order.
        lost: why it is gone for good.
        absent: whether its team went on without it, and has given it no order since.
    """

    issued: int = -1
    told: int = -1
    joined: bool = False
    log: list[WorkOrder] = field(default_factory=list)
    saved: list[int] = field(default_factory=list)
    final: Report | None = None
    lost: str | None = None
    absent: bool = False

    @property
    def over(self) -> bool:
        return self.final is not None or self.lost is not None

    @property
    def done(self) -> int:
        """Number of the order after which it would go on, were it to restart now."""
        return self.saved[-1] if self.saved else -1


class Team:
    """Gives each trainer what the method asks for, and again what a restarted one has not done yet.

    A trainer that restarts comes back with the number of the order that it did last. What the log holds
    beyond is sent again, in order; reports that the method was told already are dropped. So the method
    never notices, and its trajectory is that of an undisturbed run, unless a state is gone that an order is to
    start from once more. Where reports do not depend on what their trainer did before (``Method.stateful``), only
    the order that was cut off is sent again.

    An order that starts from a state of another trainer is held back while none that is there can send it, as long
    as one may come that can. A trainer is ended only when nobody needs what it keeps any more.

    Args:
        method: a fresh one.
        size: number of members, 0 to size - 1.
        listener: hears what happens.
        kept: number of checkpoints per trainer that are kept.
    """

    def __init__(self, method: Method, size: int, listener: Listener, kept: int) -> None:
        self.method = method
        self.size = size
        self.listener = listener
        self.members = {member: Member() for member in range(size)}
        self.states = StateStore()
        self.hyper_step: int | None = None
        self._kept = kept
        self._space: Space | None = None
        # of this process only: who is there, what it works on, what comes next
        self._present: set[int] = set()
        self._places: dict[int, Place] = {}
        self._working: dict[int, WorkOrder] = {}
        self._done: dict[int, int] = {}  # number of the last order of which each has what it brought
        self._queues: dict[int, deque[WorkOrder]] = {member: deque() for member in range(size)}
        self._behind: set[int] = set()
        self._complete = False
        self._silent = False
        self._postponed: set[int] = set()

    # Who is there from the start ---------------------------------------------------------------------

    @property
    def newcomers(self) -> list[int]:
        """Members that have never been there, and may still come."""
        return [member for member in self.open_members if not self.members[member].joined]

    @property
    def postponed(self) -> frozenset[int]:
        """Newcomers that nobody waits for, wherever they are."""
        return frozenset(self._postponed)

    def begin_without(self, members: Collection[int]) -> None:
        """The team begins, or goes on, without these newcomers; they may come later.

        Raises:
            ValueError: if the method's team cannot grow.
        """
        self._postponed = set(members)
        if all(entry.issued < 0 for entry in self.members.values()):
            self.method.begin_with(len(self.open_members) - len(self._postponed))
        self._announce()

    def leave_out(self, member: int) -> None:
        """A trainer cannot start again: the team goes on without it, and takes it in as a newcomer if it can.

        Raises:
            ValueError: if the method's team cannot grow.
        """
        if not self.method.can_grow:
            raise ValueError(CANNOT_GROW)
        self._postponed.add(member)
        self._forget(member, _LEFT_OUT)

    def _forget(self, member: int, reason: str) -> None:
        """What a trainer has done is gone; it may come back as a newcomer."""
        entry = self.members[member]
        self.depart(member)
        self.states.forget(member)
        entry.joined, entry.absent, entry.log, entry.told = False, True, [], entry.issued
        self._silent = False
        step = self.method.leave(member)
        self.listener.left_out(member, reason)
        self._record(step)

    def close(self) -> list[int]:
        """Once the method is done: newcomers that are not needed any more, each named as lost, and why."""
        if not self.method.done:
            return []
        found = self.newcomers
        for member in found:
            self._turn_away(member)
        return found

    def _turn_away(self, member: int) -> None:
        self._postponed.discard(member)
        self.members[member].lost = _NO_ROOM
        self.listener.lost(member, _NO_ROOM)

    # What happens to trainers ------------------------------------------------------------------------

    def arrive(self, member: int, done: int, space: Space, place: Place) -> bool:
        """A trainer has (re)started at a place and has done the orders up to number ``done``.

        Returns:
            True if nothing is left for it to do.

        Raises:
            SchedulerError: if it tunes other hyperparameters than its team, or can no longer catch up.
        """
        entry = self.members[member]
        if self._space is None:
            self._space = space
        elif self._space != space:
            raise SchedulerError(f"trainer {member} tunes other hyperparameters than the rest of its team")
        # a stateful trainer that is behind catches up; one that is ahead of the team repeats its report
        known = min(done, entry.told) if self.method.stateful and entry.joined else entry.told
        if entry.lost is not None or (entry.final is not None and known >= entry.final.number):
            return True
        if not entry.joined and (self.method.done or (member in self._postponed and not self.method.can_grow)):
            self._turn_away(member)
            return True
        self._postponed.discard(member)
        self.listener.arrived(member, place)
        missing = [order for order in entry.log if order.number > known]
        follows = bool(missing) and (missing[0].number == known + 1 or missing[0].after_absence)
        if known < entry.issued and not follows:
            raise SchedulerError(
                f"trainer {member} came back with {done + 1} orders done, too far behind to catch up "
                f"with the team's {entry.issued + 1}; its last checkpoints are missing"
            )
        self._queues[member] = deque(missing)
        self._working.pop(member, None)
        self._done[member] = done if self.method.stateful else min(done, entry.told)
        if not self.method.stateful:  # what it did since is not done again
            self.states.forget(member, after=done)
        self._present.add(member)
        self._places[member] = place
        self._behind.add(member)
        self._silent = False
        if not entry.joined:
            entry.joined = True
            self.method.join(member, space)
        self._announce()
        return False

    def restart(self, member: int, reason: str) -> None:
        """A trainer has failed, and is being restarted."""
        self.depart(member)
        self.listener.departed(member, reason)

    def depart(self, member: int) -> None:
        """A trainer is not there any more."""
        entry = self.members[member]
        self._present.discard(member)
        self._working.pop(member, None)
        self._done[member] = entry.done
        if not self.method.stateful:
            self.states.forget(member, after=entry.done)
        self._queues[member].clear()

    def lose(self, member: int, reason: str) -> None:
        """A trainer is gone for good: the team goes on without it."""
        entry = self.members[member]
        self.depart(member)
        if entry.over:
            return
        entry.lost = reason
        self.states.forget(member)
        self._silent = False
        step = self.method.leave(member)
        self.listener.lost(member, reason)
        self._record(step)
        self._announce()

    def take(self, member: int, report: Report) -> bool:
        """A report has come; it is told to the method unless that has heard it before.

        Returns:
            True if the trainer is through.
        """
        entry = self.members[member]
        if member not in self._working or self._working[member].number != report.number:
            return entry.over
        order = self._working.pop(member)
        self._done[member] = max(self._done[member], report.number)
        if report.number <= entry.told:
            if isinstance(report, StateMissing):
                return self._cannot_repeat(member, order)
            return entry.final is not None and report.number == entry.final.number
        entry.told = report.number
        self.states.did(member, order, report)
        self._behind.discard(member)
        if not self.method.stateful:
            entry.log = [order for order in entry.log if order.number > entry.told]
        self._silent = False
        step = self.method.tell(member, report)
        self.listener.reported(member, report)
        if isinstance(report, Diverged):  # the method let the member go when it was told
            entry.lost = report.message
            self.depart(member)
            self.listener.lost(member, report.message)
        elif isinstance(report, Finished):
            entry.final = report
            self.states.forget(member)
        self._record(step)
        return entry.over

    def _cannot_repeat(self, member: int, order: WorkOrder) -> bool:
        """A restarted trainer is to start from a state once more that nobody keeps any more.

        From there on it would not have the network that the method thinks it has. So it comes back as a newcomer
        that takes a team-mate's network, if the method has newcomers and somebody else is left; else it is lost.

        Returns:
            True if the trainer is through.
        """
        self.states.did(member, order, StateMissing(number=order.number))
        others = any(self.members[other].joined for other in self.open_members if other != member)
        if not self.method.can_grow or not others:
            self.lose(member, f"{_CANNOT_REPEAT.format(order.number)}, so that it cannot go on")
            return True
        assert self._space is not None
        self._forget(
            member, f"{_CANNOT_REPEAT.format(order.number)}: it starts again from another trainer's network"
        )
        return self.arrive(member, order.number, self._space, self._places[member])

    def _record(self, step: HyperStep | None) -> None:
        if step is not None:
            self.hyper_step = step.number
            self.listener.hyper_step(step)

    def saved(self, member: int, done: int) -> None:
        """There is a checkpoint of the trainer after order ``done``; forgets what no kept one needs."""
        entry = self.members[member]
        if done not in entry.saved:
            entry.saved = [*entry.saved, done][-self._kept :]
        if len(entry.saved) == self._kept:
            entry.log = [order for order in entry.log if order.number > entry.saved[0]]

    def _announce(self) -> None:
        if (
            not self._complete
            and self._space
            and all(e.over or m in self._present or m in self._postponed for m, e in self.members.items())
        ):
            self._complete = True
            told = {member: entry.told + 1 for member, entry in self.members.items() if entry.lost is None}
            self.listener.resumed(told, 0 if self.hyper_step is None else self.hyper_step + 1)
            there = sum(entry.lost is None for entry in self.members.values()) - len(self._postponed)
            self.listener.started(self._space, there)

    # What trainers are to do -------------------------------------------------------------------------

    def ask(self) -> None:
        """Takes new orders from the method.

        Raises:
            SchedulerError: if the method gives an order to a member that has one, or is gone.
        """
        if not self._complete or self._silent:
            return
        orders = self.method.ask()
        self._silent = not orders  # until it is told something
        for member, order in orders.items():
            entry = self.members[member]
            if entry.over or entry.issued > entry.told:
                raise SchedulerError(f"the method gave trainer {member} an order while it had one or was gone")
            entry.issued += 1
            order = replace(order, number=entry.issued, after_absence=entry.absent)
            entry.absent = False
            entry.log.append(order)
            if member in self._present:
                self._queues[member].append(order)

    def waiting(self) -> Iterator[int]:
        """Members that are idle and have an order to get."""
        for member in sorted(self._present):
            is_idle = self._complete and self._queues[member] and member not in self._working
            if is_idle and self._may_begin(member, self._queues[member][0]):
                yield member

    def _may_begin(self, member: int, order: WorkOrder) -> bool:
        """Whether an order need not wait for other members."""
        if isinstance(order, Finish) and self._is_needed(member, order):
            return False
        key = self._key_from_others(member, order)
        if key is None or self.states.source(key, self._can_send) is not None:
            return True  # else it waits for one that restarts, or that works from the same state
        return not self.states.exists(key) and all(at_work.start != key for at_work in self._working.values())

    def _key_from_others(self, member: int, order: WorkOrder) -> str | None:
        """Of the state that has to come along with a member's order, if one has to."""
        is_done = order.number <= self._done.get(member, -1)
        return None if is_done or self.states.holds(member, order.start) else order.start

    def _is_needed(self, member: int, last: Finish) -> bool:
        """Whether another member is to start from what this one keeps, be it with the same last order."""
        kept = self.states.kept_by(member)
        if not kept:
            return False
        others = [other for other in self.open_members if self.members[other].joined]
        if last.start in kept and not all(self.states.holds(other, last.start) for other in others):
            return True
        return any(self._key_from_others(m, order) in kept for m in others for order in self.members[m].log)

    def _can_send(self, member: int, number: int) -> bool:
        """Whether a member is there and has what its order of this number brought."""
        return member in self._present and number <= self._done[member]

    def dispatch(self, member: int) -> WorkOrder:
        """The next order of a member in ``waiting``; from now on it works on it.

        Returns:
            The order, with the ``source`` of the state that it starts from, if that comes from another member.
        """
        order = self._queues[member].popleft()
        if (key := self._key_from_others(member, order)) is not None:
            order = replace(order, source=self.states.source(key, self._can_send))
        self._working[member] = order
        return order

    def is_saved(self, member: int) -> bool:
        """Whether the last checkpoint of a member holds all that it did, or it has done nothing yet."""
        entry = self.members[member]
        return entry.told < 0 or (bool(entry.saved) and entry.saved[-1] >= entry.told)

    def working(self, member: int) -> bool:
        """Whether a member has an order that it has not reported."""
        return member in self._working

    def work(self, member: int) -> str | None:
        """What a member that is there is at, in words; None if it is idle."""
        return f"order {self._working[member].number}" if member in self._working else None

    def behind(self, member: int) -> bool:
        """Whether a member has reported nothing new since its trainer started."""
        return member not in self._present or member in self._behind

    def present(self, member: int) -> bool:
        """Whether a member's trainer is there, at work or not."""
        return member in self._present

    def send_again(self, member: int) -> tuple[int, str] | None:
        """The state that the member's order starts from did not arrive: the order will be sent again.

        Returns:
            The member that it was to come from, and its key.
        """
        order = self._working.get(member)
        if order is None or order.start is None or order.source is None:
            return None
        self.states.did_not_arrive(order.start, order.source)
        return order.source, order.start

    @property
    def over(self) -> bool:
        return not self.open_members

    @property
    def open_members(self) -> list[int]:
        """Members that have something left to do."""
        return [member for member, entry in self.members.items() if not entry.over]

    @property
    def stalled(self) -> bool:
        """True if every trainer is idle, has not got its last order, and the method wants nothing."""
        alive = [member for member in self.open_members if member not in self._postponed]
        return self._silent and bool(alive) and all(self._idle(member) for member in alive)

    def _idle(self, member: int) -> bool:
        return member in self._present and member not in self._working and not self._queues[member]

    # State -------------------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        return {
            "method": self.method.state_dict(),
            "members": self.members,
            "states": self.states.state_dict(),
            "hyper_step": self.hyper_step,
            "space": self._space,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.method.load_state_dict(state["method"])
        self.members = state["members"]
        self._done = {member: entry.done for member, entry in self.members.items()}
        self.states.load_state_dict(state["states"])
        self.hyper_step = state["hyper_step"]
        self._space = state["space"]
