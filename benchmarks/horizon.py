"""Schedules against their last values, held from the start, and against their mean over the last part.

    python benchmarks/horizon.py [--problem NAME ...] [--seeds 3] [--shares 1 0.5 0.25]

Each problem is tuned once; then plain networks are trained with what was found, `--seeds` of each kind, for a
share of its training steps. The table has mean validation losses, and what the verdict says.

- `late`: weight decay starts far too small and comes to its end late.
- `falling`: weight decay has done its work early, and falls.
- `level`: schedule and last values are about as good.
- `digits`, `noisy_digits`: the packaged studies (minutes).
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
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


def planted(
    start: float, rate: float, steps: int, learning_rate: float, **settings: Any
) -> tuple[Any, Any, Schedule]:
    optimization = Optimization(batch_size=8, optimizer="sgd", learning_rate=learning_rate)
    objective = Regression(TwoWeights, *one_weight_unseen(), optimization)
    decay = {"weight_decay": {"strength": Tune(start)}}
    settings = {"method": "implicit", "warmup_steps": 0, "learning_rate": rate, **settings}
    return objective, decay, tune(objective, decay, steps=steps, **settings).schedule


def packaged(name: str) -> tuple[Any, Any, Schedule]:
    study = load_study(find_study(name))
    method = {key: value for key, value in vars(study.method).items()}
    result = tune(study.objective, study.regularizers, steps=study.budget.steps, seed=study.seed, **method)
    return study.objective, study.regularizers, result.schedule


PROBLEMS: Mapping[str, Callable[[], tuple[Any, Any, Schedule]]] = {
    "late": lambda: planted(0.003, 0.04, 60, 0.05, train_steps=2, system_steps=2),
    "falling": lambda: planted(1.0, 0.15, 100, 0.02, train_steps=2, system_steps=2),
    "level": lambda: planted(0.1, 0.1, 200, 0.02, train_steps=1),
    "digits": lambda: packaged("digits"),
    "noisy_digits": lambda: packaged("noisy_digits"),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--problem", nargs="+", choices=list(PROBLEMS), default=["late", "falling", "level"])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--shares", nargs="+", type=float, default=[1.0, 0.5, 0.25])
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    kinds = (SCHEDULE, END, SETTLED)
    print(f"| problem, training steps | {' | '.join(kinds)} | verdict |")
    print("| --- " * (len(kinds) + 2) + "|")
    for name in arguments.problem:
        objective, regularizers, found = PROBLEMS[name]()
        for share in arguments.shares:
            steps = round(share * found.steps)
            short = found.stretched(steps)
            plans = {SCHEDULE: short, END: short.held(), SETTLED: short.settled(AVERAGE)}
            reports = {
                kind: {
                    seed: TrainingFinished(
                        training_step=steps, measures=replay(objective, regularizers, plan, seed=seed).metrics
                    )
                    for seed in range(1, arguments.seeds + 1)
                }
                for kind, plan in plans.items()
            }
            verdict = horizon_of("validation_loss", "min", reports, steps)
            losses = [f"{verdict['results'][kind]['validation_loss']:.4f}" for kind in kinds]
            words = verdict["sentence"].partition(":")[0]
            print(f"| {name}, {steps} | {' | '.join(losses)} | {words} |", flush=True)


if __name__ == "__main__":
    main()
