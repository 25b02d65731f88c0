"""What the engine adds to a training step of bare PyTorch with the same data source, when nothing is tuned.

    python benchmarks/frame_overhead.py [--pairs 20] [--seconds 0.5] [--only NAME ...] [--profile NAME]

A row is a network and a way to train it, such as the engine's trainer on tensors in memory. It is compared with a
bare loop that draws its batches in the same way: rounds of both alternate in one process on one thread, in an
order that changes from pair to pair. Medians over the pairs are printed, of CPU times, so that a busy machine
counts little.

The goal: where a bare step takes 10 ms or more, a step of ours takes at most 1.03 times as long; where it takes
less, at most 50 microseconds more. `--profile` prints which functions one of the ways spends its time in.
"""

from __future__ import annotations

import argparse
import cProfile
import pstats
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from selftune import Classification, OnlineTuner, Optimization
from selftune.data.global_generators import guarded
from selftune.training import Trainer

EXAMPLES = 4096
RATIO, MICROSECONDS, LONG = 1.03, 50.0, 10.0

Step = Callable[[], object]


@dataclass(frozen=True)
class Case:
    """A network with data of a shape that it takes."""

    build: Callable[[], nn.Module]
    shape: tuple[int, ...]
    batch: int

    def data(self) -> tuple[Tensor, Tensor]:
        generator = torch.Generator().manual_seed(0)
        inputs = torch.randn(EXAMPLES, *self.shape, generator=generator)
        return inputs, torch.randint(10, (EXAMPLES,), generator=generator)


def perceptron() -> nn.Module:
    return nn.Sequential(nn.Linear(64, 256), nn.ReLU(), nn.Linear(256, 256), nn.ReLU(), nn.Linear(256, 10))


def convolutional() -> nn.Module:
    return nn.Sequential(
        *(nn.Conv2d(3, 32, 3, padding=1), nn.BatchNorm2d(32), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(32, 64, 3, padding=1), nn.BatchNorm2d(64), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(64, 64, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 10)),
    )


def deep() -> nn.Module:
    """Many small layers: what is paid per layer or per parameter shows here."""
    hidden = [layer for _ in range(48) for layer in (nn.Linear(256, 256), nn.LayerNorm(256), nn.ReLU())]
    return nn.Sequential(nn.Linear(64, 256), nn.ReLU(), *hidden, nn.Linear(256, 10))


CASES = {
    "MLP": Case(perceptron, (64,), 64),
    "deep MLP": Case(deep, (64,), 64),
    "CNN": Case(convolutional, (3, 32, 32), 32),
}


def optimizer_of(network: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.SGD(network.parameters(), lr=1e-3, momentum=0.9)


def bare_memory(case: Case) -> Step:
    """A loop as anybody would write it down, on tensors in memory."""
    network, (inputs, labels) = case.build(), case.data()
    optimizer = optimizer_of(network)
    batches: Iterator[Tensor] = iter(())

    def step() -> None:
        nonlocal batches
        index = next(batches, None)
        if index is None:
            batches = iter(torch.randperm(EXAMPLES).split(case.batch))
            index = next(batches)
        loss = F.cross_entropy(network(inputs[index]), labels[index])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    return step


class Examples(Dataset[tuple[Tensor, Tensor]]):
    """A data set as people write one down."""

    def __init__(self, data: tuple[Tensor, Tensor]) -> None:
        self.data = data

    def __len__(self) -> int:
        return len(self.data[0])

    def __getitem__(self, position: int) -> tuple[Tensor, Tensor]:
        return self.data[0][position], self.data[1][position]


def loader_of(case: Case) -> DataLoader[tuple[Tensor, Tensor]]:
    return DataLoader(Examples(case.data()), batch_size=case.batch, shuffle=True)


def bare_loader(case: Case) -> Step:
    """A loop as anybody would write it down, over a data loader without workers."""
    network, loader = case.build(), loader_of(case)
    optimizer = optimizer_of(network)
    batches: Iterator[Any] = iter(())

    def step() -> None:
        nonlocal batches
        batch = next(batches, None)
        if batch is None:
            batches = iter(loader)
            batch = next(batches)
        loss = F.cross_entropy(network(batch[0]), batch[1])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    return step


def tuner_of(network: nn.Module, case: Case) -> OnlineTuner:
    """Nothing to tune, and no regularizer."""
    few = torch.randn(64, *case.shape), torch.randint(10, (64,))
    return OnlineTuner(
        network,
        optimizer_of(network),
        {},
        forward=lambda network, batch: network(batch[0]),
        loss=lambda outputs, batch: F.cross_entropy(outputs, batch[1], reduction="none"),
        validation=[few],
    )


def tuner_memory(case: Case) -> Step:
    """The loop of ``bare_memory`` with two lines changed."""
    network, (inputs, labels) = case.build(), case.data()
    tuner = tuner_of(network, case)
    batches: Iterator[Tensor] = iter(())

    def step() -> None:
        nonlocal batches
        index = next(batches, None)
        if index is None:
            batches = iter(torch.randperm(EXAMPLES).split(case.batch))
            index = next(batches)
        tuner.loss((inputs[index], labels[index])).backward()
        tuner.step()

    return step


def tuner_loader(case: Case) -> Step:
    """The loop of ``bare_loader`` with two lines changed."""
    network, loader = case.build(), loader_of(case)
    tuner = tuner_of(network, case)
    batches: Iterator[Any] = iter(())

    def step() -> None:
        nonlocal batches
        batch = next(batches, None)
        if batch is None:
            batches = iter(loader)
            batch = next(batches)
        tuner.loss(batch).backward()
        tuner.step()

    return step


def trainer_memory(case: Case) -> Step:
    return trainer_on(case, case.data())


def trainer_dataset(case: Case) -> Step:
    return trainer_on(case, Examples(case.data()))


def trainer_loader(case: Case) -> Step:
    return trainer_on(case, loader_of(case))


def trainer_on(case: Case, data: Any) -> Step:
    """The engine's trainer, as it replays a schedule; a call of it executes one order of several steps."""
    few = tuple(tensor[:64] for tensor in case.data())
    optimization = Optimization(batch_size=case.batch, optimizer="sgd", learning_rate=1e-3, momentum=0.9)
    trainer = Trainer(Classification(case.build, data, few, few, optimization), [])
    values = trainer.space.values(trainer.space.start)

    def step() -> None:
        trainer.lower.train(trainer.training_step, values)
        trainer.training_step += 1

    return step


WAYS: dict[str, tuple[Callable[[Case], Step], Callable[[Case], Step]]] = {
    "trainer, from memory": (bare_memory, trainer_memory),
    "trainer, from a Dataset": (bare_loader, trainer_dataset),
    "trainer, from a DataLoader": (bare_loader, trainer_loader),
    "own loop, from memory": (bare_memory, tuner_memory),
    "own loop, from a DataLoader": (bare_loader, tuner_loader),
}
"""What is compared by its name: the bare loop first."""


def seconds(step: Step, steps: int) -> float:
    with guarded():  # as an order's steps are
        started = time.process_time()
        for _ in range(steps):
            step()
        return (time.process_time() - started) / steps


def compare(bare: Step, ours: Step, pairs: int, budget: float) -> tuple[float, float, float]:
    """Milliseconds of a bare step, the ratio of ours to it, and the microseconds that ours adds."""
    both = (bare, ours)
    for each in both:
        seconds(each, 10)
    steps = max(3, round(budget / seconds(bare, 10)))
    times: list[tuple[float, float]] = []
    for number in range(pairs):
        first = number % 2
        one, other = seconds(both[first], steps), seconds(both[1 - first], steps)
        times.append((other, one) if first else (one, other))
    return (
        statistics.median(plain for plain, _ in times) * 1e3,
        statistics.median(mine / plain for plain, mine in times),
        statistics.median(mine - plain for plain, mine in times) * 1e6,
    )


def within(milliseconds: float, ratio: float, added: float) -> bool:
    """Whether the goal is met."""
    return ratio <= RATIO if milliseconds >= LONG else added <= MICROSECONDS


def profile(name: str, steps: int = 300) -> None:
    """Functions by the time spent in themselves, over all networks' smallest."""
    step = WAYS[name][1](CASES["MLP"])
    seconds(step, 20)
    with cProfile.Profile() as found:
        seconds(step, steps)
    pstats.Stats(found).sort_stats("tottime").print_stats(30)


def main() -> None:
    torch.set_num_threads(1)
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=20)
    parser.add_argument("--seconds", type=float, default=0.5, help="CPU time of one round")
    parser.add_argument("--only", nargs="+", choices=WAYS, metavar="NAME", help=f"of {', '.join(WAYS)}")
    parser.add_argument("--profile", choices=WAYS, metavar="NAME", help="profiles one way and compares nothing")
    arguments = parser.parse_args()
    if arguments.profile:
        profile(arguments.profile)
        return
    print("| way | network | bare step, ms | ratio | added, microseconds | within the goal |")
    print("| --- | --- | --- | --- | --- | --- |")
    for way in arguments.only or WAYS:
        bare, ours = WAYS[way]
        for network, case in CASES.items():
            found = compare(bare(case), ours(case), arguments.pairs, arguments.seconds)
            row = f"| {way} | {network} | {found[0]:.2f} | {found[1]:.3f} | {found[2]:.0f} |"
            print(f"{row} {'yes' if within(*found) else 'no'} |", flush=True)


if __name__ == "__main__":
    main()
