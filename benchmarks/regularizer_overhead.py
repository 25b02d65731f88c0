"""Time of a training step with each regularizer of the catalogue, as a ratio to the plain step.

    python benchmarks/regularizer_overhead.py [--steps 20] [--rounds 15] [--only NAME ...]

Every regularizer runs with its default settings on the first of these objectives that provides what it needs: an
MLP and a small CNN on digits, rotated digits (domains), self-supervised digits (views), split digits (stages),
modular arithmetic, and one that plays all other parts. Rounds with and without it alternate in one process on one
thread, and the median of the rounds' ratios of CPU times is printed, largest first. A plain step takes a
millisecond or so here, so what is called per step weighs more than with a larger network. The plain step itself is
compared with a loop of bare PyTorch.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator

import torch
from many_parts import ManyParts
from selftune.objectives.data.digit_images import PIXELS, load_digit_splits
from selftune.objectives.networks.perceptron import perceptron
from selftune.objectives.tasks.modular_arithmetic import ModularArithmetic
from selftune.objectives.tasks.rotated_digits import RotatedDigits
from selftune.objectives.tasks.self_supervised_digits import SelfSupervisedDigits
from selftune.objectives.tasks.split_digits import SplitDigits
from torch import nn

from selftune.lower_level.classification import Classification
from selftune.lower_level.objective import NetworkObjective
from selftune.lower_level.optimization import Optimization
from selftune.regularization.regularizer import regularizers
from selftune.regularization.step_quantities import closure
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
    return Classification(
        lambda: perceptron(PIXELS * PIXELS, (256, 256), 10), *load_digit_splits(800, 500, 0), Optimization(BATCH)
    )


def cnn() -> NetworkObjective:
    splits = [(inputs.view(-1, 1, 8, 8), labels) for inputs, labels in load_digit_splits(800, 500, 0)]
    crops = tuple(inputs.roll(1, dims=-1) for inputs, _ in splits)
    return Classification(convolutional, *splits, Optimization(BATCH), extra={"second_inputs": crops})


OBJECTIVES: dict[str, Callable[[], NetworkObjective]] = {
    "mlp": mlp,
    "cnn": cnn,
    "rotated digits": lambda: RotatedDigits(batch_size=BATCH, balanced=False),
    "self-supervised digits": lambda: SelfSupervisedDigits(batch_size=BATCH),
    "split digits": lambda: SplitDigits(batch_size=BATCH, stage_steps=1),
    "modular arithmetic": lambda: ModularArithmetic(modulus=23, hidden=128, batch_size=BATCH),
    "many parts": lambda: ManyParts(BATCH),
}


def partners(name: str) -> list[str]:
    """Regularizers that provide what only regularizers provide."""
    everything = frozenset[str]().union(*(closure(make().offers()) for make in OBJECTIVES.values()), {"progress"})
    found = []
    for need in sorted(regularizers[name].needs - everything):
        found += [other for other in regularizers.names() if need in regularizers[other].provides][:1]
    return sorted(set(found))


def seconds(step: Callable[[], object], steps: int) -> float:
    """CPU time, so that a busy machine does not count."""
    started = time.process_time()
    for _ in range(steps):
        step()
    return time.process_time() - started


def ratio(step: Callable[[], object], other: Callable[[], object], steps: int, rounds: int) -> float:
    for each in (step, other):
        seconds(each, steps)
    return statistics.median(seconds(step, steps) / seconds(other, steps) for _ in range(rounds))


def training(trainer: Trainer) -> Callable[[], object]:
    values = trainer.space.values(trainer.space.start)

    def step() -> None:
        trainer.lower.train(trainer.training_step, values)
        trainer.training_step += 1

    return step


def bare(objective: NetworkObjective) -> Callable[[], object]:
    """The same training as anybody would write it down."""
    network, data = objective.network(), objective.splits()["train"]
    inputs, labels = data["inputs"], data["labels"]
    optimizer = objective.optimization.build(list(network.parameters()))
    batches: Iterator[torch.Tensor] = iter(())

    def step() -> None:
        nonlocal batches
        index = next(batches, None)
        if index is None:
            whole = len(labels) // BATCH * BATCH
            batches = iter(torch.randperm(len(labels))[:whole].split(BATCH))
            index = next(batches)
        loss = objective.loss(network(inputs[index]), objective.targets(labels[index])).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    return step


def measure(name: str, steps: int, rounds: int) -> tuple[str, float] | None:
    helpers = partners(name)
    own = frozenset[str]().union(*(regularizers[one].provides for one in (name, *helpers)), {"progress"})
    needs = frozenset[str]().union(*(regularizers[one].needs for one in (name, *helpers)))
    for where, make in OBJECTIVES.items():
        objective = make()
        if needs <= closure(objective.offers() | own):
            rest = [regularizers[one]() for one in helpers]
            limit = 10 * steps * (rounds + 1)
            pair = [
                training(Trainer(objective, members, steps=limit))
                for members in ([regularizers[name](), *rest], rest)
            ]
            return where, ratio(*pair, steps, rounds)
    return None


def main() -> None:
    torch.set_num_threads(1)
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=20, help="training steps per round")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--only", nargs="+", help="names of regularizers")
    arguments = parser.parse_args()
    for where in ("mlp", "cnn"):
        objective = OBJECTIVES[where]()
        times = ratio(training(Trainer(objective, [])), bare(objective), 3 * arguments.steps, arguments.rounds)
        print(f"A plain step of the {where} takes {times:.2f} times as long as a loop of bare PyTorch.")
    print()
    rows, left = [], []
    for name in arguments.only or regularizers.names():
        found = measure(name, arguments.steps, arguments.rounds)
        if found is None:
            left.append(name)
        else:
            rows.append((found[1], name, regularizers[name].kind, found[0]))
    print("| regularizer | kind | objective | step, in plain steps |")
    print("| --- | --- | --- | --- |")
    for times, name, kind, where in sorted(rows, reverse=True):
        print(f"| {name} | {kind} | {where} | {times:.2f} |")
    if left:
        print(f"\nNot measured, because none of the objectives provides what they need: {', '.join(left)}.")


if __name__ == "__main__":
    main()
