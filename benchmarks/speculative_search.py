"""What a team gains when it tries several candidates of a line search at the same time.

    python benchmarks/speculative_search.py [--steps N] [--without-ray]

The same accepted steps, to the last bit, by one trainer and by teams. First on Ray: seconds by the wall clock, one
trainer against two that speculate, from the first accepted step to the last; trainers that slow each other down
show in their milliseconds per lower-level gradient or product (``work``). Then in the simulator: trainers with a
virtual clock that counts work, until the last accepted step; ``spent`` is what all trainers did until then.

Two searches: ``defaults`` proposes quasi-Newton steps, of which the first is usually accepted, so that there is
little to speculate on. ``backtracking`` goes along hypergradients as in the paper (arXiv 2308.10098), with a first
step that is eight times the last one, so that several candidates are tried each time.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from selftune.objectives.tasks.logistic_regression import LogisticRegression
from selftune.objectives.tasks.quadratic_bilevel import QuadraticBilevel
from selftune.objectives.tasks.total_variation_denoising import TotalVariationDenoising

from selftune.listener import Listener
from selftune.lower_level.smooth_objective import SmoothObjective
from selftune.methods import HyperStep, InexactLineSearch, InexactLineSearchSettings
from selftune.schedulers import run_on_ray
from selftune.training.simulator import simulate
from selftune.training.smooth_trainer import SmoothTrainerFactory

TEAMS = (1, 2, 4, 8, 16, 32, 64)
SEARCHES: Mapping[str, Mapping[str, Any]] = {
    "defaults": {},
    "backtracking": {"memory": 0, "barzilai_borwein": False, "step_growth": 8.0, "backtracks": 10},
}
PROBLEMS: Mapping[str, partial[SmoothObjective]] = {
    "quadratic": partial(QuadraticBilevel, parameter_count=400, hyperparameter_count=40, condition=1000.0),
    "logistic per class": partial(LogisticRegression, groups="per_class", train_examples=200),
    "total variation": partial(TotalVariationDenoising),
}


class Clock(Listener):
    """When each hyper-step was complete, and where it started from."""

    def __init__(self) -> None:
        self.times: list[float] = []
        self.steps: list[HyperStep] = []

    def hyper_step(self, step: HyperStep) -> None:
        self.times.append(time.perf_counter())
        self.steps.append(step)

    @property
    def seconds(self) -> float:
        return self.times[-1] - self.times[0]


def iterates(steps: list[HyperStep]) -> list[list[float]]:
    return [step.hyperparameters.tolist() for step in steps]


def on_ray(objective: SmoothObjective, settings: InexactLineSearchSettings, steps: int) -> None:
    first: list[list[float]] = []
    before = 0.0
    print("| trainers | seconds | speed-up | trainers' ms per work | candidates per step | same steps |")
    print("| --- | --- | --- | --- | --- | --- |")
    for team in (1, 2):
        clock = Clock()
        with tempfile.TemporaryDirectory() as folder:
            run_on_ray(
                partial(InexactLineSearch, None, steps, settings, team),
                SmoothTrainerFactory(objective),
                members=team,
                cpus=1,
                gpus=0,
                folder=Path(folder),
                listener=clock,
                space=SmoothTrainerFactory(objective)(0).space,
            )
        first, before = first or iterates(clock.steps), before or clock.seconds
        same = "yes" if iterates(clock.steps) == first else "no"
        tried = sum(step.certificate["candidates"] for step in clock.steps) / len(clock.steps)
        pace = 1e3 * clock.steps[-1].seconds / clock.steps[-1].training_step
        row = f"{team} | {clock.seconds:.2f} | {before / clock.seconds:.2f} | {pace:.3f} | {tried:.1f} | {same}"
        print(f"| {row} |", flush=True)


def in_simulator(objective: SmoothObjective, settings: InexactLineSearchSettings, steps: int) -> None:
    first: list[list[float]] = []
    before = 0.0
    print("| trainers | virtual time | speed-up | spent | validation loss | same steps |")
    print("| --- | --- | --- | --- | --- | --- |")
    for team in TEAMS:
        trainers = {member: SmoothTrainerFactory(objective)(member) for member in range(team)}
        method = InexactLineSearch(None, steps, settings, team)
        simulation = simulate(method, trainers, lambda report: report.metrics["work"])
        end, last = simulation.steps[-1]
        spent = simulation.total("work", until=end)
        reached = iterates([step for _, step in simulation.steps])
        first, before = first or reached, before or end
        same = "yes" if reached == first else "no"
        row = f"{team} | {end:.0f} | {before / end:.2f} | {spent:.0f} | {last.validation_loss:.6g} | {same}"
        print(f"| {row} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--steps", type=int, default=12, help="accepted steps")
    parser.add_argument("--problem", choices=PROBLEMS, action="append", help="default: all of them")
    parser.add_argument("--without-ray", action="store_true", help="in the simulator only")
    options = parser.parse_args()
    for problem in options.problem or PROBLEMS:
        objective = PROBLEMS[problem]()
        for search, chosen in SEARCHES.items():
            settings = InexactLineSearchSettings(**chosen)
            if not options.without_ray:
                print(f"\n{problem}, {search}, on Ray\n")
                on_ray(objective, settings, options.steps)
            print(f"\n{problem}, {search}, in the simulator\n")
            in_simulator(objective, settings, options.steps)


if __name__ == "__main__":
    main()
