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

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from selftune import Classification, OnlineTuner, Optimization
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


def endless(loader: DataLoader[tuple[Tensor, Tensor]]) -> Iterator[tuple[Tensor, Tensor]]:
    while True:
        yield from loader


def bare_dataset(case: Case) -> Step:
    """The same on a data set, with torch's loader in the same process."""
    network = case.build()
    optimizer = optimizer_of(network)
    batches = endless(DataLoader(TensorDataset(*case.data()), batch_size=case.batch, shuffle=True, drop_last=True))

    def step() -> None:
        inputs, labels = next(batches)
        loss = F.cross_entropy(network(inputs), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    return step


def tuner_of(network: nn.Module, case: Case) -> OnlineTuner:
    """A tuner with nothing to tune and no regularizer."""
    few = torch.randn(64, *case.shape), torch.randint(10, (64,))
    return OnlineTuner(
        network,
        optimizer_of(network),
        {},
        forward=lambda network, batch: network(batch[0]),
        loss=lambda outputs, batch: F.cross_entropy(outputs, batch[1], reduction="none"),
        validation=DataLoader(TensorDataset(*few), batch_size=64),
    )


def tuner_memory(case: Case) -> Step:
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


def tuner_dataset(case: Case) -> Step:
    network, data = case.build(), case.data()
    tuner = tuner_of(network, case)
    batches = endless(DataLoader(TensorDataset(*data), batch_size=case.batch, shuffle=True, drop_last=True))

    def step() -> None:
        tuner.loss(next(batches)).backward()
        tuner.step()

    return step


def trainer_memory(case: Case) -> Step:
    """The engine's trainer, as it replays a schedule; a call of it executes one order of several steps."""
    return trainer_step(case, case.data())


def trainer_dataset(case: Case) -> Step:
    """The same on a data set, of which the engine draws the indices itself."""
    return trainer_step(case, TensorDataset(*case.data()))


def trainer_step(case: Case, data: object) -> Step:
    few = torch.randn(64, *case.shape), torch.randint(10, (64,))
    optimization = Optimization(batch_size=case.batch, optimizer="sgd", learning_rate=1e-3, momentum=0.9)
    trainer = Trainer(Classification(case.build, data, few, few, optimization), [])
    values = trainer.space.values(trainer.space.start)

    def step() -> None:
        trainer.lower.train(trainer.training_step, values)
        trainer.training_step += 1

    return step


WAYS: dict[str, tuple[Callable[[Case], Step], Callable[[Case], Step]]] = {
    "trainer, from memory": (bare_memory, trainer_memory),
    "trainer, from a Dataset": (bare_dataset, trainer_dataset),
    "own loop, from memory": (bare_memory, tuner_memory),
    "own loop, from a Dataset": (bare_dataset, tuner_dataset),
}
"""What is compared by its name: the bare loop first."""


def seconds(step: Step, steps: int) -> float:
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
