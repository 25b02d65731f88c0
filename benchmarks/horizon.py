"""Schedules against their last values, held from the start, and against their mean over the last part.

    python benchmarks/horizon.py [--problem NAME ...] [--seeds 3] [--shares 1 0.5 0.25] [--terms N ...]

Each problem is tuned once; then plain networks are trained with what was found, `--seeds` of each kind, for a
share of its training steps. The table has mean validation losses, and what the verdict says.

- `late`: weight decay starts far too small and comes to its end late.
- `falling`: weight decay has done its work early, and falls.
- `level`: schedule and last values are about as good.
- `digits`, `noisy_digits`: the packaged studies (minutes).

`--terms` tunes `late` and `falling` with so many terms of the Neumann series: how many steps a hypergradient sees.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch
from networks.two_weights import TwoWeights, one_weight_unseen

from selftune import Optimization, Regression, Tune, replay, tune
from selftune.methods.reports import TrainingFinished
from selftune.schedule import Schedule
from selftune.studies.horizon import END, SCHEDULE, SETTLED, horizon_of
from selftune.studies.packaged import find_study
from selftune.studies.study_file import load_study

AVERAGE = 0.25
Problem = tuple[Any, Any, Schedule]
"""Objective, regularizers, and the schedule that tuning found."""


def planted(start: float, rate: float, steps: int, learning_rate: float, **settings: Any) -> Problem:
    optimization = Optimization(batch_size=8, optimizer="sgd", learning_rate=learning_rate)
    objective = Regression(TwoWeights, *one_weight_unseen(), optimization)
    decay = {"weight_decay": {"strength": Tune(start)}}
    settings = {"method": "implicit", "warmup_steps": 0, "learning_rate": rate, **settings}
    return objective, decay, tune(objective, decay, steps=steps, **settings).schedule


def packaged(name: str) -> Problem:
    study = load_study(find_study(name))
    method = {key: value for key, value in vars(study.method).items()}
    result = tune(study.objective, study.regularizers, steps=study.budget.steps, seed=study.seed, **method)
    return study.objective, study.regularizers, result.schedule


def late(terms: int = 2) -> Problem:
    return planted(0.003, 0.04, 60, 0.05, train_steps=2, system_steps=terms)


def falling(terms: int = 2) -> Problem:
    return planted(1.0, 0.15, 100, 0.02, train_steps=2, system_steps=terms)


PROBLEMS: Mapping[str, Callable[[], Problem]] = {
    "late": late,
    "falling": falling,
    "level": lambda: planted(0.1, 0.1, 200, 0.02, train_steps=1),
    "digits": lambda: packaged("digits"),
    "noisy_digits": lambda: packaged("noisy_digits"),
}


def row(name: str, problem: Problem, share: float, seeds: int) -> str:
    objective, regularizers, found = problem
    steps = round(share * found.steps)
    short = found.stretched(steps)
    plans = {SCHEDULE: short, END: short.held(), SETTLED: short.settled(AVERAGE)}
    measured = {
        kind: {seed: replay(objective, regularizers, plan, seed=seed).metrics for seed in range(1, seeds + 1)}
        for kind, plan in plans.items()
    }
    reports = {
        kind: {seed: TrainingFinished(training_step=steps, measures=found) for seed, found in measures.items()}
        for kind, measures in measured.items()
    }
    verdict = horizon_of("validation_loss", "min", reports, steps)
    losses = [f"{verdict['results'][kind]['validation_loss']:.4f}" for kind in plans]
    return f"| {name}, {steps} | {' | '.join(losses)} | {verdict['sentence'].partition(':')[0]} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--problem", nargs="+", choices=list(PROBLEMS), default=["late", "falling", "level"])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--shares", nargs="+", type=float, default=[1.0, 0.5, 0.25])
    parser.add_argument("--terms", nargs="+", type=int, default=[])
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    problems = {name: PROBLEMS[name] for name in arguments.problem}
    if arguments.terms:
        problems = {
            f"{tuned.__name__}, {terms} terms": partial(tuned, terms)
            for tuned in (late, falling)
            for terms in arguments.terms
        }
    print(f"| problem, training steps | {SCHEDULE} | {END} | {SETTLED} | verdict |")
    print("| --- | --- | --- | --- | --- |")
    for name, tuned in problems.items():
        problem = tuned()
        for share in arguments.shares:
            print(row(name, problem, share, arguments.seeds), flush=True)


if __name__ == "__main__":
    main()
