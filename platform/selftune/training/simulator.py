"""A simulator of the engine: any method, any number of trainers, a virtual clock, one process."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from selftune.listener import Listener
from selftune.methods import HyperStep, Method, Report
from selftune.methods.reports import Diverged
from selftune.training.state_store import StateStore
from selftune.training.team_run import Executes, NoTrainerLeft, Stalled

Duration = Callable[[Report], float]
"""Virtual time that the order behind a report takes, at least 0."""


@dataclass(frozen=True)
class Event:
    """A report, when its order went out and when it came back; ``step`` is the hyper-step that it completed."""

    member: int
    start: float
    end: float
    report: Report
    step: HyperStep | None


@dataclass(frozen=True)
class Simulation:
    """What happened, in the order of the virtual clock, which starts at 0."""

    events: tuple[Event, ...]

    @property
    def steps(self) -> list[tuple[float, HyperStep]]:
        """Hyper-steps, each with the time at which it was complete."""
        return [(event.end, event.step) for event in self.events if event.step is not None]

    @property
    def seconds(self) -> float:
        """When the last report came."""
        return max((event.end for event in self.events), default=0.0)

    def total(self, metric: str, until: float = float("inf")) -> float:
        """The sum of a metric over the reports of orders that went out before a time."""
        return sum(event.report.metrics.get(metric, 0.0) for event in self.events if event.start < until)


def simulate(
    method: Method, trainers: Mapping[int, Executes], duration: Duration, listener: Listener | None = None
) -> Simulation:
    """Runs a method to its end on trainers that work side by side in virtual time.

    Trainers are real and execute their orders one after the other, in this process; what is simulated is when each
    report comes back. Among reports of one moment the smallest member's comes first, so that a simulation is
    deterministic if ``duration`` is. States travel from one trainer to another in no time.

    Args:
        method: a fresh one.
        trainers: the team, by member.
        duration: such as ``lambda report: report.metrics["work"]``; ``"seconds"`` takes the trainers' own.
        listener: hears what it hears of a real run.

    Raises:
        Stalled: if the method waits for nothing, wants nothing and is not done.
        NoTrainerLeft: if every trainer diverged.

    >>> from selftune.methods import InexactLineSearch
    >>> from selftune.objectives.tasks.quadratic_bilevel import QuadraticBilevel
    >>> from selftune.training import SmoothTrainer
    >>> problem = QuadraticBilevel(parameter_count=4, hyperparameter_count=2)
    >>> trainers = {member: SmoothTrainer(problem, member=member) for member in range(3)}
    >>> method = InexactLineSearch(steps=3, team_size=3)
    >>> simulation = simulate(method, trainers, lambda report: report.metrics["work"])
    >>> [step.number for _, step in simulation.steps]
    [0, 1, 2]
    """
    listener = listener or Listener()
    trainers = dict(trainers)
    for member, trainer in trainers.items():
        method.join(member, trainer.space)
    listener.started(next(iter(trainers.values())).space, len(trainers))
    numbers, states = dict.fromkeys(trainers, 0), StateStore()
    running: list[tuple[float, int, float, Report]] = []  # a heap: end, member, start, report
    now, events = 0.0, []
    try:
        while not method.done:
            orders = method.ask()
            if not orders and not running:
                raise Stalled(f"{type(method).__name__} is not done but asks for nothing")
            for member, order in orders.items():
                order = replace(order, number=numbers[member])
                warm = states.copies({member: order}, trainers).get(member)
                report = trainers[member].execute(order, warm)
                states.did(member, order, report)
                numbers[member] += 1
                heapq.heappush(running, (now + duration(report), member, now, report))
            now, member, start, report = heapq.heappop(running)
            step = method.tell(member, report)
            listener.reported(member, report)
            events.append(Event(member, start, now, report, step))
            if isinstance(report, Diverged):
                listener.lost(member, report.message)
                del trainers[member]
                if not trainers:
                    raise NoTrainerLeft(f"trainer {member} stopped: {report.message}")
            if step is not None:
                listener.hyper_step(step)
    finally:
        listener.ended()
    return Simulation(tuple(events))
