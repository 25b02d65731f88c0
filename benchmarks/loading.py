"""Training on data that no memory holds, compared with the bare data loader: how much of its speed is left.

    python benchmarks/loading.py [--workers 2] [--batches 100] [--pairs 5]

Reading an example takes a millisecond, as from a disk; workers read ahead. A bare loader that only gives its
batches is the fastest that training can be. Beside it, a bare loop of PyTorch trains a small network on them, and
so does the engine's trainer, which draws the indices itself. Seconds are those on the wall.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from selftune import Classification, Loading, Optimization
from selftune.training import Trainer

BATCH, EXAMPLES, READING = 32, 200_000, 0.001


class OnDisk(Dataset[tuple[Tensor, int]]):
    """Examples of 12 kB, 2.4 GB in all, each made when it is read."""

    def __len__(self) -> int:
        return EXAMPLES

    def __getitem__(self, position: int) -> tuple[Tensor, int]:
        time.sleep(READING)
        return torch.full((3, 32, 32), position / EXAMPLES), position % 10


def network() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(3072, 64), nn.ReLU(), nn.Linear(64, 10))


def loader(workers: int) -> DataLoader[tuple[Tensor, int]]:
    return DataLoader(OnDisk(), batch_size=BATCH, shuffle=True, num_workers=workers)


def bare_loader(workers: int) -> Callable[[], None]:
    batches = iter(loader(workers))

    def step() -> None:
        next(batches)

    return step


def bare_loop(workers: int) -> Callable[[], None]:
    batches, trained = iter(loader(workers)), network()
    optimizer = torch.optim.SGD(trained.parameters(), lr=1e-3, momentum=0.9)

    def step() -> None:
        inputs, labels = next(batches)
        optimizer.zero_grad()
        F.cross_entropy(trained(inputs), labels).backward()
        optimizer.step()

    return step


def trainer(workers: int) -> Callable[[], None]:
    few = torch.zeros(BATCH, 3, 32, 32), torch.arange(BATCH) % 10
    objective = Classification(
        network,
        OnDisk(),
        few,
        few,
        Optimization(batch_size=BATCH, learning_rate=1e-3),
        loading=Loading(workers=workers, memory="512MB"),
    )
    ours = Trainer(objective, [])
    values = ours.space.values(ours.space.start)

    def step() -> None:
        ours.lower.train(ours.training_step, values)
        ours.training_step += 1

    return step


def seconds(step: Callable[[], None], batches: int) -> float:
    started = time.perf_counter()
    for _ in range(batches):
        step()
    return (time.perf_counter() - started) / batches


def main() -> None:
    torch.set_num_threads(1)
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--batches", type=int, default=100)
    parser.add_argument("--pairs", type=int, default=5)
    arguments = parser.parse_args()
    ways = {"bare loader": bare_loader, "bare loop": bare_loop, "trainer": trainer}
    times: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(arguments.pairs):
        for name, way in ways.items():
            step = way(arguments.workers)
            seconds(step, 3 * arguments.workers + 1)  # what was read ahead when nobody took it
            times[name].append(seconds(step, arguments.batches))
    loading = statistics.median(times["bare loader"])
    print("| way | a batch, ms | of the bare loader's time |\n| --- | --- | --- |")
    for name, taken in times.items():
        print(f"| {name} | {statistics.median(taken) * 1e3:.2f} | {statistics.median(taken) / loading:.3f} |")


if __name__ == "__main__":
    main()
