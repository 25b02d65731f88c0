"""Methods that tune a network's regularization online, side by side on digits.

    python benchmarks/network_methods.py [--steps 3000] [--seeds 3]

Every method starts from the same poor values (weight decay 0.1 per layer, label smoothing 0.2) and trains the same
MLP for as many steps; the first row holds the values. ``work`` counts the training steps of all trainers and arms,
in units of the path that is delivered; hypergradients are not in it, seconds hold everything. Methods have their
defaults, but for three steps of the linear systems, and a learning rate of 0.03 where a rule moves things.
"""

from __future__ import annotations

import argparse
import statistics
import time
from typing import Any

import torch
from selftune.objectives.tasks.digits import Digits

from selftune import Tune
from selftune.listener import Listener
from selftune.methods import Budget, Replay, Report, Segment
from selftune.regularization.regularizer import regularizers
from selftune.training import TrainerFactory, run_in_process
from selftune.training.method_record import methods

METHODS_SHOWN: dict[str, tuple[str, dict[str, Any]]] = {
    "self_tuning": ("self_tuning", {"learning_rate": 0.03}),
    "implicit, neumann": ("implicit", {"learning_rate": 0.03, "system_steps": 3}),
    "implicit, descent": ("implicit", {"learning_rate": 0.03, "system": "descent", "system_steps": 3}),
    "implicit, conjugate_gradient": (
        "implicit",
        {"learning_rate": 0.03, "system": "conjugate_gradient", "system_steps": 3},
    ),
    "penalty": ("penalty", {"learning_rate": 0.03}),
    "inexact_line_search": ("inexact_line_search", {}),
    "inexact_line_search, proximal": ("inexact_line_search", {"proximal": True}),
}


class Spent(Listener):
    """Training steps of all trainers, kept or not."""

    def __init__(self) -> None:
        self.steps = 0.0
        self._last: dict[int, float] = {}

    def reported(self, member: int, report: Report) -> None:
        if "work" in report.metrics:
            self.steps += report.metrics["work"]
        elif report.kind in ("cycle", "replay"):
            step = report.metrics["training_step"]
            self.steps += step - self._last.get(member, 0.0)
            self._last[member] = step


def run(name: str | None, steps: int, seed: int) -> dict[str, float]:
    objective = Digits(hidden=(64, 64), train_examples=300)
    chosen = [
        regularizers["weight_decay"](parts="layer", strength=Tune(0.1)),
        regularizers["label_smoothing"](epsilon=Tune(0.2)),
    ]
    number, group_size = 1, 1
    if name is not None:
        form = methods[METHODS_SHOWN[name][0]].network
        assert form is not None
        number = group_size = form.group_size
    factory = TrainerFactory(objective, chosen, seed=seed, group_size=group_size, steps=steps)
    team = {member: factory(member) for member in range(number)}
    if name is None:
        start = team[0].space.constrain(team[0].space.start)
        method: Any = Replay([Segment(steps, start)], steps)
    else:
        method = form.make(Budget(steps=steps), form.settings(**METHODS_SHOWN[name][1]), number)
    spent = Spent()
    began = time.perf_counter()
    report = run_in_process(method, team, spent)[0]
    return {
        "seconds": time.perf_counter() - began,
        "work": spent.steps / steps,
        **{key: report.metrics[key] for key in ("validation_loss", "test_loss", "test_accuracy")},
    }


def main() -> None:
    torch.set_num_threads(1)
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=3000)
    parser.add_argument("--seeds", type=int, default=3)
    arguments = parser.parse_args()
    assert all(name in methods for name, _ in METHODS_SHOWN.values())
    print("| method | validation loss | test loss | test accuracy | work | seconds, in those of the first row |")
    print("| --- | --- | --- | --- | --- | --- |")
    plain = 0.0
    for name in (None, *METHODS_SHOWN):
        rows = [run(name, arguments.steps, seed) for seed in range(arguments.seeds)]
        mean = {key: statistics.fmean(row[key] for row in rows) for key in rows[0]}
        plain = plain or mean["seconds"]
        measures = " | ".join(f"{mean[key]:.4f}" for key in ("validation_loss", "test_loss", "test_accuracy"))
        print(f"| {name or 'values held'} | {measures} | {mean['work']:.1f} | {mean['seconds'] / plain:.1f} |")


if __name__ == "__main__":
    main()
