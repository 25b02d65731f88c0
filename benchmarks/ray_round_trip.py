"""What Ray costs a hyper-step, in milliseconds and in bare calls of an actor.

    python benchmarks/ray_round_trip.py [--steps N] [--teams 1,2,4] [--repeats 3]

The study is the digits' MLP with tuned dropout and weight decay, five training steps and one hypergradient per
hyper-step. In one process a team's trainers take turns; under Ray they work at the same time, where there are
enough cores. Ray's share is what a hyper-step takes beyond its slowest trainer: the barrier, the method, and both
ways through Ray Tune. A bare call is ``ray.get(actor.method.remote())`` on the same cluster, measured before and
after each study. All numbers are medians, over hyper-steps or calls, then over the repeats.
"""

from __future__ import annotations

import argparse
import itertools
import os
import statistics
import tempfile
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import ray
from selftune.objectives.regularizers.supervision.dropout import Dropout
from selftune.objectives.regularizers.supervision.weight_decay import weight_decay  # noqa: F401  # registers itself
from selftune.objectives.tasks.digits import Digits

from selftune.hyperparameters import Tune
from selftune.listener import Listener
from selftune.methods import Budget, HyperStep, SelfTuning, SelfTuningSettings
from selftune.regularization.regularizer import regularizers
from selftune.schedulers import run_on_ray
from selftune.schedulers.cluster import connected, quiet
from selftune.training import TrainerFactory, run_in_process

WARM_UP = 20  # hyper-steps that are not counted


class Clock(Listener):
    """When each hyper-step was complete, by the wall clock and by the trainers' own."""

    def __init__(self) -> None:
        self.wall: list[float] = []
        self.trainers: list[float] = []
        self.last: list[float] = []

    def hyper_step(self, step: HyperStep) -> None:
        self.wall.append(time.perf_counter())
        self.trainers.append(step.seconds)
        self.last = step.hyperparameters.tolist()

    def medians(self) -> tuple[float, float]:
        """Milliseconds per hyper-step: in all, and of its slowest trainer."""
        between = [[b - a for a, b in itertools.pairwise(times[WARM_UP:])] for times in (self.wall, self.trainers)]
        return 1e3 * statistics.median(between[0]), 1e3 * statistics.median(between[1])


def measure(team: int, steps: int, runner: str) -> Clock:
    clock = Clock()
    settings = SelfTuningSettings(warmup_steps=0, train_steps=5, checkpoint_every=10**6)
    method = partial(SelfTuning, Budget(steps=steps), settings, team)
    tuned = [Dropout(rate=Tune(0.1)), regularizers["weight_decay"](strength=Tune(1e-3))]
    factory = TrainerFactory(Digits(), tuned)
    if runner == "in process":
        run_in_process(method(), {member: factory(member) for member in range(team)}, clock)
        return clock
    with tempfile.TemporaryDirectory() as folder:
        run_on_ray(
            method,
            factory,
            members=team,
            cpus=min(1.0, (os.cpu_count() or 1) / team),
            gpus=0,
            folder=Path(folder),
            listener=clock,
            space=factory(0).space,
            transport="mailbox" if runner == "mailbox" else "direct",
        )
    return clock


@ray.remote
class Idle:
    """An actor that does nothing."""

    def call(self) -> None:
        """Returns at once."""


def bare_call(actor: Any, calls: int = 300) -> float:
    """Milliseconds of a call of an actor, there and back."""
    times = []
    for _ in range(calls):
        began = time.perf_counter()
        ray.get(actor.call.remote())
        times.append(time.perf_counter() - began)
    return 1e3 * statistics.median(times[calls // 10 :])


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--steps", type=int, default=1500, help="training steps of every trainer")
    parser.add_argument("--teams", default="1,2,4", help="trainers")
    parser.add_argument("--runners", default="direct", help="direct, mailbox, or both with a comma between")
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args(arguments)
    os.environ.setdefault("RAY_worker_niceness", "0")  # trainers and driver share the cores as equals
    print(
        "| trainers | runner | ms per hyper-step | of its slowest trainer | Ray's share | in bare calls | same |"
    )
    print("| --- | --- | --- | --- | --- | --- | --- |")
    with quiet(), connected():
        actor = Idle.options(num_cpus=0).remote()
        for team in map(int, options.teams.split(",")):
            reference = measure(team, options.steps, "in process")
            whole, trainer = reference.medians()
            print(f"| {team} | in process | {whole:.2f} | {trainer:.2f} | | | |", flush=True)
            for runner in options.runners.split(","):
                rows, same = [], True
                for _ in range(options.repeats):
                    before = bare_call(actor)
                    clock = measure(team, options.steps, runner)
                    call = (before + bare_call(actor)) / 2
                    whole, trainer = clock.medians()
                    rows.append((whole, trainer, whole - trainer, (whole - trainer) / call))
                    same = same and clock.last == reference.last
                cells = " | ".join(f"{statistics.median(column):.2f}" for column in zip(*rows, strict=True))
                print(f"| {team} | {runner} | {cells} | {'yes' if same else 'no'} |", flush=True)


if __name__ == "__main__":
    main()
