"""What one driver carries: the real scheduler, teams and trajectories with trainers that take virtual time only.

Everything that the driver of a run does for an order is done here: the method is asked and told, the scheduler
gives the order out and takes the report, the callback adds its columns, rows of trajectories are written, states
are saved as Ray Tune has them saved. What is not real are Ray and the trainers: delays and deaths are drawn,
reports made up. Ray Tune's own work for a result comes on top of it.

    python benchmarks/simulated_cluster.py [--scale 1.0] [--scenarios single,wide,many] [--hyperparameters 10]

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
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from ray import cloudpickle
from ray.tune.experiment import Trial
from ray.tune.schedulers import TrialScheduler

from selftune.hyperparameters import Hyperparameter, Interval, Space
from selftune.listener import Listener, Listeners
from selftune.methods import Budget, Report, SelfTuning, SelfTuningSettings, WorkOrder
from selftune.methods.reports import ResponseHypergradient, Trained, TrainingFinished
from selftune.methods.work_orders import FinishTraining, Train
from selftune.schedulers import slots
from selftune.schedulers.opaque import Opaque
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
}


class Actor:
    """Where a trial's trainer would be; it keeps the order until the trial is told to train."""

    def __init__(self) -> None:
        self.orders: list[WorkOrder] = []
        self.receive = types.SimpleNamespace(remote=lambda order, state=None: self.orders.append(order))


@dataclass
class SimulatedTrial:
    """What the scheduler sees of a trial of Tune's."""

    trial_id: str
    config: dict[str, Any] = field(default_factory=dict)
    status: str = Trial.PENDING
    is_saving: bool = False
    error_file: Path | None = None
    latest_checkpoint_result: Any = None
    done_orders: int = -1
    training_step: int = 0
    starts: int = 0
    actor: Actor | None = None

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
        trials: how many.
        space: that trainers tune.
        deaths: the share of orders in which a trainer dies.
        seed: of delays, deaths and reports.
        snapshot_every: orders between two snapshots of the callback's state, as Tune takes them by its own clock.
    """

    search_alg = types.SimpleNamespace(metric=None, is_finished=lambda: True)

    def __init__(
        self,
        scheduler: BilevelScheduler,
        trials: int,
        space: Space,
        deaths: float,
        seed: int,
        snapshot_every: int = 10_000,
    ) -> None:
        self.scheduler, self.callback = scheduler, scheduler.callback()
        self.space, self.deaths, self.snapshot_every = space, deaths, snapshot_every
        self.random, self.generator = random.Random(seed), torch.Generator().manual_seed(seed)
        self.now, self._count, self.orders, self.died = 0.0, 0, 0, 0
        self.events: list[tuple[float, int, str, SimulatedTrial]] = []
        self.trials = [SimulatedTrial(f"t{number}") for number in range(trials)]
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
        open_trials = len(self.trials)
        while open_trials:
            before = time.perf_counter()
            chosen = self.scheduler.choose_trial_to_run(self)
            if chosen is not None:
                chosen.status = Trial.PENDING
                self._at(START * self.random.random(), "start", chosen)
            if chosen is not None or not self.events:
                continue
            orders = self.orders
            open_trials -= self._event()
            if self.orders > orders:
                self.loops.append(time.perf_counter() - before)
                if self.orders % self.snapshot_every == 0:
                    self.checkpoint()
                if self.orders in marks:
                    memory[marks[self.orders]] = resident()
        self.callback.on_experiment_end(self.trials)
        return memory

    def checkpoint(self, force: bool = False) -> None:
        """A snapshot of the experiment, as far as it is the scheduler's."""
        before = time.perf_counter()
        self.snapshot_bytes = len(cloudpickle.dumps(self.callback.get_state()))
        self.snapshot_seconds = time.perf_counter() - before

    def _schedule_trial_train(self, trial: SimulatedTrial) -> None:
        self._at(self.random.expovariate(1 / ORDER), "train", trial)

    def _at(self, delay: float, what: str, trial: SimulatedTrial) -> None:
        self._count += 1
        heapq.heappush(self.events, (self.now + delay, self._count, what, trial))

    def _event(self) -> int:
        """The next thing that happens; how many trials ended with it."""
        self.now, _, what, trial = heapq.heappop(self.events)
        if what == "start":
            trial.actor, trial.status = Actor(), Trial.RUNNING
            trial.starts += 1
            entries = {"incarnation": f"{trial.trial_id}.{trial.starts}", "space": Opaque(self.space)}
            return self._result(trial, {"event": "ready", **entries})
        assert trial.actor is not None
        if self.random.random() < self.deaths:
            return self._death(trial)
        order = trial.actor.orders.pop(0)
        report = self._report(trial, order)
        trial.done_orders, self.orders = order.number, self.orders + 1
        ended = self._result(trial, {"event": "report", "report": Opaque(report)})
        if order.checkpoint:
            metrics = {"order": trial.done_orders, "training_step": trial.training_step}
            trial.latest_checkpoint_result = types.SimpleNamespace(
                metrics=metrics, checkpoint=types.SimpleNamespace(path=f"/nowhere/{trial.trial_id}")
            )
            self.scheduler.on_checkpoint(trial, snapshot=False)
        return ended

    def _result(self, trial: SimulatedTrial, entries: dict[str, Any]) -> int:
        result = {"order": trial.done_orders, "hostname": "nowhere", "pid": 1, **entries}
        decision = self.scheduler.on_trial_result(self, trial, dict(result))
        self.callback.on_trial_result(0, self.trials, trial, result)
        if decision != TrialScheduler.STOP:
            return 0
        self.scheduler.on_trial_complete(self, trial, result)
        trial.status, trial.actor = Trial.TERMINATED, None
        return 1

    def _death(self, trial: SimulatedTrial) -> int:
        """The process is gone; what it did since its last checkpoint is done again."""
        self.died += 1
        trial.actor, trial.status = None, Trial.ERROR
        saved = trial.latest_checkpoint_result
        trial.done_orders = -1 if saved is None else saved.metrics["order"]
        trial.training_step = 0 if saved is None else saved.metrics["training_step"]
        self.scheduler.on_trial_error(self, trial)
        trial.status = Trial.PENDING
        self.scheduler.on_trial_add(self, trial)
        if trial.status == Trial.PENDING:
            self._at(START, "start", trial)
        return 0

    def _report(self, trial: SimulatedTrial, order: WorkOrder) -> Report:
        if isinstance(order, FinishTraining):
            return TrainingFinished(number=order.number, training_step=trial.training_step, measures=MEASURES)
        assert isinstance(order, Train)
        trial.training_step += order.steps
        u = order.values.unconstrained
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

        scheduler = BilevelScheduler(method, scenario.members, transport="direct", listener=record)
        tune = SimulatedTune(scheduler, trials, space, scenario.deaths, seed)
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
