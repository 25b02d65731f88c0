"""Milliseconds per hyper-step through Ray beside the same cycle in one process.

    python benchmarks/ray_round_trip.py [--steps N]

The study is the digits' MLP with tuned dropout and weight decay, five training steps and one hypergradient per
hyper-step. In one process a team's trainers take turns; under Ray they work at the same time, where there are
enough cores. The round trip is what a hyper-step takes beyond its slowest trainer: the barrier, the method, and
both ways through Ray Tune. All numbers are medians over hyper-steps.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import tempfile
import time
from functools import partial
from pathlib import Path

from selftune.objectives.regularizers.supervision.dropout import Dropout
from selftune.objectives.regularizers.supervision.weight_decay import weight_decay  # noqa: F401  # registers itself
from selftune.objectives.tasks.digits import Digits

from selftune.hyperparameters import Tune
from selftune.listener import Listener
from selftune.methods import Budget, HyperStep, SelfTuning, SelfTuningSettings
from selftune.regularization.regularizer import regularizers
from selftune.schedulers import run_on_ray
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
            cpus=1,
            gpus=0,
            folder=Path(folder),
            listener=clock,
            space=factory(0).space,
            transport="mailbox" if runner == "mailbox" else "direct",
        )
    return clock


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--steps", type=int, default=1500, help="training steps of every trainer")
    steps = parser.parse_args().steps
    print("| trainers | runner | ms per hyper-step | of its slowest trainer | round trip | same trajectory |")
    print("| --- | --- | --- | --- | --- | --- |")
    for team in (1, 2):
        reference: list[float] = []
        for runner in ("in process", "direct", "mailbox"):
            clock = measure(team, steps, runner)
            reference = reference or clock.last
            whole, trainer = clock.medians()
            trip = "" if runner == "in process" else f"{whole - trainer:.2f}"
            same = "yes" if clock.last == reference else "no"
            print(f"| {team} | {runner} | {whole:.2f} | {trainer:.2f} | {trip} | {same} |", flush=True)


if __name__ == "__main__":
    main()
