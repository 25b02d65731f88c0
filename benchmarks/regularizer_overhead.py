"""Time of a training step with each regularizer of the catalogue, as a ratio to the plain step.

    python benchmarks/regularizer_overhead.py [--steps 60] [--rounds 7] [--only NAME ...]

Every regularizer runs with its default settings on the first of these objectives that provides what it needs: an
MLP and a small CNN on digits, rotated digits (domains), self-supervised digits (views), split digits (stages).
Rounds with and without it alternate in one process, and the ratio of their medians is printed, largest first. A
plain step takes a millisecond or two here, so what is called per step weighs more than with a larger network.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections import OrderedDict
from collections.abc import Callable

import torch
from selftune.objectives.digit_images import load_digit_splits, perceptron
from selftune.objectives.tasks.rotated_digits import RotatedDigits
from selftune.objectives.tasks.self_supervised_digits import SelfSupervisedDigits
from selftune.objectives.tasks.split_digits import SplitDigits
from torch import nn

from selftune.objective import Classification, NetworkObjective, Optimization
from selftune.provided import closure
from selftune.regularizer import regularizers
from selftune.training import Trainer

BATCH = 128


class Block(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.branch = nn.Sequential(nn.Conv2d(channels, channels, 3, padding=1), nn.ReLU())

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return inputs + self.branch(inputs)


def convolutional() -> nn.Module:
    return nn.Sequential(
        OrderedDict(
            first=nn.Conv2d(1, 32, 3, padding=1),
            norm=nn.BatchNorm2d(32),
            relu=nn.ReLU(),
            block=Block(32),
            pool=nn.AdaptiveAvgPool2d(2),
            flat=nn.Flatten(),
            head=nn.Linear(128, 10),
        )
    )


def mlp() -> NetworkObjective:
    return Classification(lambda: perceptron((256, 256)), *load_digit_splits(800, 500, 0), Optimization(BATCH))


def cnn() -> NetworkObjective:
    splits = [(inputs.view(-1, 1, 8, 8), labels) for inputs, labels in load_digit_splits(800, 500, 0)]
    return Classification(convolutional, *splits, Optimization(BATCH))


OBJECTIVES: dict[str, Callable[[], NetworkObjective]] = {
    "mlp": mlp,
    "cnn": cnn,
    "rotated digits": lambda: RotatedDigits(batch_size=BATCH),
    "self-supervised digits": lambda: SelfSupervisedDigits(batch_size=BATCH),
    "split digits": lambda: SplitDigits(batch_size=BATCH, stage_steps=1),
}


def partners(name: str) -> list[str]:
    """Regularizers that provide what only regularizers provide."""
    everything = frozenset[str]().union(*(closure(make().provides) for make in OBJECTIVES.values()), {"progress"})
    found = []
    for need in sorted(regularizers[name].needs - everything):
        found += [other for other in regularizers.names() if need in regularizers[other].provides][:1]
    return sorted(set(found))


def seconds(trainer: Trainer, steps: int) -> float:
    values = trainer.space.values(trainer.space.start)
    started = time.perf_counter()
    for _ in range(steps):
        trainer.lower.train(trainer.training_step, values)
        trainer.training_step += 1
    return time.perf_counter() - started


def measure(name: str, steps: int, rounds: int) -> tuple[str, float] | None:
    helpers = partners(name)
    own = frozenset[str]().union(*(regularizers[one].provides for one in (name, *helpers)), {"progress"})
    needs = frozenset[str]().union(*(regularizers[one].needs for one in (name, *helpers)))
    for where, make in OBJECTIVES.items():
        objective = make()
        if needs <= closure(objective.provides | own):
            rest = [regularizers[one]() for one in helpers]
            limit = 10 * steps * (rounds + 1)
            pair = [
                Trainer(objective, [regularizers[name](), *rest], steps=limit),
                Trainer(objective, rest, steps=limit),
            ]
            times: list[list[float]] = [[], []]
            for trainer in pair:
                seconds(trainer, steps)
            for _ in range(rounds):
                for trainer, taken in zip(pair, times, strict=True):
                    taken.append(seconds(trainer, steps))
            return where, statistics.median(times[0]) / statistics.median(times[1])
    return None


def main() -> None:
    torch.set_num_threads(1)
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=60, help="training steps per round")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--only", nargs="+", help="names of regularizers")
    arguments = parser.parse_args()
    rows, left = [], []
    for name in arguments.only or regularizers.names():
        found = measure(name, arguments.steps, arguments.rounds)
        if found is None:
            left.append(name)
        else:
            rows.append((found[1], name, regularizers[name].kind, found[0]))
    print("| regularizer | kind | objective | step, in plain steps |")
    print("| --- | --- | --- | --- |")
    for ratio, name, kind, where in sorted(rows, reverse=True):
        print(f"| {name} | {kind} | {where} | {ratio:.2f} |")
    if left:
        print(f"\nNot measured, because none of the objectives provides what they need: {', '.join(left)}.")


if __name__ == "__main__":
    main()
