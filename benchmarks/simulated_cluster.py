"""What one driver carries: the real scheduler, teams and trajectories with trainers that take virtual time only.

Everything that the driver of a run does for an order is done here: the method is asked and told, the scheduler
gives the order out and takes the report, the callback adds its columns, rows of trajectories are written, states
are saved as Ray Tune has them saved. What is not real are Ray and the trainers: delays and deaths are drawn,
reports made up. Ray Tune's own work for a result comes on top of it.

    python benchmarks/simulated_cluster.py [--scale 1.0] [--scenarios single,wide,some,many,trials]

A row is one scenario: orders per second of the driver's time, milliseconds per loop that had one, the last
snapshot of all states, and the driver's resident memory after a half and all of the orders.
"""

from __future__ import annotations

import argparse
import heapq
import os
import random
import statistics
import tempfile
import time
import types
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch
from ray import cloudpickle
from ray.tune.experiment import Trial
from ray.tune.schedulers import TrialScheduler

from selftune.hyperparameters import Hyperparameter, Interval, Space
from selftune.listener import Listener, Listeners
from selftune.methods import Budget, Method, Report, SelfTuning, SelfTuningSettings, WorkOrder
from selftune.methods.reports import ResponseHypergradient, Trained, TrainingFinished
from selftune.methods.work_orders import FinishTraining, Train
from selftune.schedulers import slots
from selftune.schedulers.callback import StateCallback
from selftune.schedulers.opaque import Opaque
from selftune.schedulers.run_record import RunRecord, read_record
from selftune.schedulers.scheduler import BilevelScheduler
from selftune.tracking.trajectory import TrajectoryWriter

START = 5.0  # virtual seconds until a trainer is there
ORDER = 1.0  # mean virtual seconds of an order
TRAIN_STEPS = 5


@dataclass(frozen=True)
class Scenario:
    """How many teams of how many members work through how many orders in all."""

    teams: int
    members: int
    orders: int
    deaths: float = 1e-3
    """The share of orders in which a trainer dies."""


SCENARIOS = {
    "single": Scenario(teams=1, members=1, orders=20_000),
    "wide": Scenario(teams=1, members=256, orders=100_000),
    "some": Scenario(teams=100, members=4, orders=100_000),
    "many": Scenario(teams=1000, members=1, orders=1_000_000),
    "trials": Scenario(teams=10_000, members=1, orders=200_000),
}


class Actor:
    """Where a trial's trainer would be; it keeps the order until its time has come."""

    def __init__(self) -> None:
        self.orders: list[WorkOrder] = []


@dataclass
class SimulatedTrial:
    """What the scheduler sees of a trial of Tune's."""

    trial_id: str
    number: int = 0
    config: dict[str, Any] = field(default_factory=dict)
    status: str = Trial.PENDING
    is_saving: bool = False
    error_file: Path | None = None
    latest_checkpoint_result: Any = None
    done_orders: int = -1
    training_step: int = 0
    start: tuple[int, int] = (-1, 0)
    """Orders done and training step before its first checkpoint."""
    starts: int = 0
    actor: Actor | None = None
    run_metadata: Any = field(
        default_factory=lambda: types.SimpleNamespace(num_failures=0, invalidate_cache=lambda: None)
    )

    @property
    def temporary_state(self) -> types.SimpleNamespace:
        return types.SimpleNamespace(ray_actor=self.actor)

    placement_group_factory = types.SimpleNamespace(required_resources={"CPU": 1}, bundles=[{"CPU": 1}])

    def set_config(self, config: dict[str, Any]) -> None:
        self.config = config

    def set_status(self, status: str) -> None:
        self.status = status

    def is_finished(self) -> bool:
        return self.status in (Trial.TERMINATED, Trial.ERROR)

    def should_recover(self) -> bool:
        return True


class SimulatedTune:
    """Tune's controller on a virtual clock: one event per step, as Tune handles one result per step of its loop.

    Args:
        scheduler: a real one.
        trials: Tune's.
        space: that trainers tune.
        deaths: the share of orders in which a trainer dies.
        seed: of delays, deaths and reports.
        snapshot_every: orders between two snapshots of the callback's state, as Tune takes them by its own clock.
        callback: in the place of the scheduler's own.
    """

    search_alg = types.SimpleNamespace(metric=None, is_finished=lambda: True)

    def __init__(
        self,
        scheduler: BilevelScheduler,
        trials: Sequence[SimulatedTrial],
        space: Space,
        deaths: float,
        seed: int,
        snapshot_every: int = 10_000,
        callback: StateCallback | None = None,
    ) -> None:
        self.scheduler, self.callback = scheduler, callback or scheduler.callback()
        self.space, self.deaths, self.snapshot_every = space, deaths, snapshot_every
        self.random, self.seed, self.generator = random.Random(seed), seed, torch.Generator()
        self.now, self._count, self.orders, self.died = 0.0, 0, 0, 0
        self.events: list[tuple[float, int, str, SimulatedTrial]] = []
        self.trials = list(trials)
        self.left = len(self.trials)
        self.loops: list[float] = []
        self.snapshot_bytes, self.snapshot_seconds = 0, 0.0
        scheduler.set_search_properties(None, None)
        self.callback.setup()
        began = time.perf_counter()
        for trial in self.trials:
            scheduler.on_trial_add(self, trial)
        self.adding = time.perf_counter() - began

    def run(self, marks: Mapping[int, str]) -> dict[str, float]:
        """Steps to the end; resident memory in MB at so many orders, by the name of the mark."""
        memory: dict[str, float] = {}
        while self.left:
            before, orders = time.perf_counter(), self.orders
            self.step()
            if self.orders > orders:
                self.loops.append(time.perf_counter() - before)
                if self.orders % self.snapshot_every == 0:
                    self.checkpoint()
                if self.orders in marks:
                    memory[marks[self.orders]] = resident()
        self.callback.on_experiment_end(self.trials)
        return memory

    def step(self) -> None:
        """A step of the controller's loop."""
        chosen = self.scheduler.choose_trial_to_run(self)
        if chosen is not None:
            chosen.status = Trial.PENDING
            self._at(START * self.random.random(), "start", chosen)
        elif self.events:
            self._event()

    def checkpoint(self, force: bool = False) -> None:
        """A snapshot of the experiment, as far as it is the scheduler's."""
        before = time.perf_counter()
        self.snapshot_bytes = len(cloudpickle.dumps(self.callback.get_state()))
        self.snapshot_seconds = time.perf_counter() - before

    _on_training_result = _trial_task_failure = None  # this one calls its own

    def _schedule_trial_task(
        self, trial: SimulatedTrial, method_name: str, args: tuple[Opaque], on_result: None, on_error: None
    ) -> None:
        assert trial.actor is not None
        trial.actor.orders.append(args[0].content)
        self._at(self.random.expovariate(1 / ORDER), "train", trial)

    def _at(self, delay: float, what: str, trial: SimulatedTrial) -> None:
        self._count += 1
        heapq.heappush(self.events, (self.now + delay, self._count, what, trial))

    def _event(self) -> None:
        """The next thing that happens."""
        self.now, _, what, trial = heapq.heappop(self.events)
        if what == "start":
            trial.actor, trial.status = Actor(), Trial.RUNNING
            trial.starts += 1
            entries = {"incarnation": f"{trial.trial_id}.{trial.starts}", "space": Opaque(self.space)}
            self._result(trial, {"event": "ready", **entries})
            return
        assert trial.actor is not None
        if self.random.random() < self.deaths:
            self._death(trial)
            return
        order = trial.actor.orders.pop(0)
        report = self._report(trial, order)
        trial.done_orders, self.orders = order.number, self.orders + 1
        self._result(trial, {"event": "report", "report": Opaque(report)})
        if order.checkpoint:
            metrics = {"order": trial.done_orders, "training_step": trial.training_step}
            trial.latest_checkpoint_result = types.SimpleNamespace(
                metrics=metrics,
                checkpoint=types.SimpleNamespace(path=f"/nowhere/{trial.done_orders}-{trial.training_step}"),
            )
            self._saved(trial)

    def _saved(self, trial: SimulatedTrial) -> None:
        self.scheduler.on_checkpoint(trial, snapshot=False)

    def _result(self, trial: SimulatedTrial, entries: dict[str, Any]) -> None:
        result = {"order": trial.done_orders, "hostname": "nowhere", "pid": 1, **entries}
        decision = self.scheduler.on_trial_result(self, trial, dict(result))
        self.callback.on_trial_result(0, self.trials, trial, result)
        if decision == TrialScheduler.STOP:
            self.scheduler.on_trial_complete(self, trial, result)
            trial.status, trial.actor = Trial.TERMINATED, None
            self.left -= 1

    def _death(self, trial: SimulatedTrial) -> None:
        """The process is gone; what it did since its last checkpoint is done again."""
        self.died += 1
        trial.actor, trial.status = None, Trial.ERROR
        saved = trial.latest_checkpoint_result
        trial.done_orders, trial.training_step = trial.start
        if saved is not None:
            trial.done_orders, trial.training_step = saved.metrics["order"], saved.metrics["training_step"]
        self.scheduler.on_trial_error(self, trial)
        trial.status = Trial.PENDING
        self.scheduler.on_trial_add(self, trial)
        if trial.status == Trial.PENDING:
            self._at(START, "start", trial)

    def _report(self, trial: SimulatedTrial, order: WorkOrder) -> Report:
        if isinstance(order, FinishTraining):
            return TrainingFinished(number=order.number, training_step=trial.training_step, measures=MEASURES)
        assert isinstance(order, Train)
        trial.training_step += order.steps
        u = order.values.unconstrained
        # what a trainer reports follows from who it is and what it is asked, as with real ones
        self.generator.manual_seed(hash((self.seed, trial.number, order.number)))
        noise = torch.randn(u.shape, generator=self.generator)
        found = ResponseHypergradient(hypergradient=u + 0.1 * noise, scale_gradient=0.1 * noise)
        return Trained(
            number=order.number,
            training_step=trial.training_step,
            training_loss=float(noise[0].abs()),
            measures=MEASURES,
            hypergradient=found if order.hypergradient else None,
            seconds=ORDER,
        )


class RecordedTune(SimulatedTune):
    """The driver of a study: its one team's record is written, and another driver goes on from it.

    Args:
        folder: of the study, with the record of the driver before, if there was one.
        method: builds the team's method.
        members, space, deaths, seed: of the team, and as of ``SimulatedTune``.
    """

    def __init__(
        self, folder: Path, method: Callable[[], Method], members: int, space: Space, deaths: float, seed: int
    ) -> None:
        place, listener = folder / "ray", TrajectoryWriter(folder)
        left = read_record(place, space)
        place.mkdir(parents=True, exist_ok=True)
        scheduler = BilevelScheduler(method, members, transport="direct", listener=lambda team: listener)
        scheduler.left = left
        self.record = RunRecord(place, scheduler, space, left)
        numbers = range(members) if left is None else left.open_members
        trials = [SimulatedTrial(f"t{member}", member, {"member": member}) for member in numbers]
        for trial in trials:
            if left is not None and trial.number in left.checkpoints:
                done, step = left.checkpoints[trial.number].name.split("-")
                trial.start = trial.done_orders, trial.training_step = int(done), int(step)
        super().__init__(scheduler, trials, space, deaths, seed, callback=self.record)

    def _saved(self, trial: SimulatedTrial) -> None:
        self.record.on_trial_save(0, self.trials, trial)

    def step(self) -> None:
        super().step()
        self.record.on_step_end(0, self.trials)

    def checkpoint(self, force: bool = False) -> None:
        """Writes the record once more, as a driver does from time to time."""
        before = time.perf_counter()
        self.record.write()
        self.snapshot_seconds = max(self.snapshot_seconds, time.perf_counter() - before)
        self.snapshot_bytes = sum(path.stat().st_size for path in self.record.files)


MEASURES = {"validation_loss": 0.5, "validation_accuracy": 0.5, "test_loss": 0.5, "test_accuracy": 0.5}


def resident() -> float:
    """The resident memory of this process in MB."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def simulated(scenario: Scenario, hyperparameters: int, scale: float, seed: int) -> dict[str, float]:
    """The measures of a scenario with ``scale`` times its orders."""
    space = Space([Hyperparameter(f"h.x{i}", Interval(), 0.5, tuned=True) for i in range(hyperparameters)])
    trials = scenario.teams * scenario.members
    orders = max(round(scenario.orders * scale), 20 * trials)
    steps = orders // trials * TRAIN_STEPS
    settings = SelfTuningSettings(warmup_steps=0, train_steps=TRAIN_STEPS)
    with tempfile.TemporaryDirectory() as place:

        def record(team: int) -> Listener:
            return Listeners([TrajectoryWriter(Path(place) / f"team-{team}")])

        def method(team: int, config: Mapping[str, Any]) -> SelfTuning:
            return SelfTuning(Budget(steps=steps), settings, scenario.members)

        if scenario.teams == 1:
            tune: SimulatedTune = RecordedTune(
                Path(place), partial(method, 0, {}), scenario.members, space, scenario.deaths, seed
            )
        else:
            scheduler = BilevelScheduler(method, scenario.members, transport="direct", listener=record)
            numbered = [SimulatedTrial(f"t{number}", number) for number in range(trials)]
            tune = SimulatedTune(scheduler, numbered, space, scenario.deaths, seed)
        half = orders // 2
        before = time.perf_counter()
        memory = tune.run({half: "half", orders - trials: "end"})
        seconds = time.perf_counter() - before
    loops = sorted(tune.loops)
    return {
        "teams": scenario.teams,
        "members": scenario.members,
        "orders": tune.orders,
        "deaths": tune.died,
        "adding": tune.adding,
        "rate": tune.orders / seconds,
        "median": 1e3 * statistics.median(loops),
        "percentile": 1e3 * loops[int(0.99 * len(loops))],
        "snapshot": tune.snapshot_bytes / 1e6,
        "snapshot_seconds": tune.snapshot_seconds,
        "half": memory.get("half", float("nan")),
        "end": memory.get("end", float("nan")),
    }


COLUMNS = {
    "teams": "{:,.0f}",
    "members": "{:,.0f}",
    "orders": "{:,.0f}",
    "deaths": "{:,.0f}",
    "orders a second": "{:,.0f}",
    "ms per order, median": "{:.2f}",
    "99th percentile": "{:.2f}",
    "snapshot, MB": "{:.1f}",
    "seconds": "{:.2f}",
    "MB at half": "{:.0f}",
    "MB at the end": "{:.0f}",
}
KEYS = (
    "teams", "members", "orders", "deaths", "rate", "median", "percentile", "snapshot", "snapshot_seconds",
    "half", "end",
)  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scenarios", default=",".join(SCENARIOS), help=f"of {', '.join(SCENARIOS)}")
    parser.add_argument("--scale", type=float, default=1.0, help="of the number of orders")
    parser.add_argument("--hyperparameters", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    names = options.scenarios.split(",")
    unknown = [name for name in names if name not in SCENARIOS]
    if unknown:
        parser.error(f"unknown scenario {unknown[0]!r}; known are {', '.join(SCENARIOS)}")
    slots.alive = lambda: [{"CPU": 1e6}]
    print(f"| {' | '.join(COLUMNS)} |")
    print(f"|{' --- |' * len(COLUMNS)}")
    for name in names:
        row = simulated(SCENARIOS[name], options.hyperparameters, options.scale, options.seed)
        cells = [form.format(row[key]) for key, form in zip(KEYS, COLUMNS.values(), strict=True)]
        print(f"| {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
