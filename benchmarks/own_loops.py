"""Networks tuned in loops of one's own: a regression and a language model, each beside the same loop untuned.

    python benchmarks/own_loops.py [--steps 2000] [--seeds 3] [--only NAME ...]

Every row is a problem: the test loss of a network whose strengths stay where they start, of one whose strengths
move while it trains, over the same batches, and where the strengths end. The language model reads characters of a
text file, and is left out where the file is not there (`--text`).
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from sklearn.datasets import load_diabetes
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, TensorDataset, random_split

from selftune import Losses, OnlineTuner, Tune

TEXT = Path(__file__).parents[2] / "shared" / "data" / "shakespeare.txt"


@dataclass(frozen=True)
class Problem:
    """What a loop of one's own has: data, a network, a loss. Nothing of it knows selftune."""

    training: Dataset[Any]
    validation: Dataset[Any]
    test: Dataset[Any]
    build: Callable[[], nn.Module]
    loss: Callable[[Any, Any], Tensor | Losses]
    batch: int
    strengths: Mapping[str, Mapping[str, float]]


# A regression -----------------------------------------------------------------------------------------


def diabetes() -> Problem:
    """How far the disease went in a year, from ten measurements; overfitted within a few epochs."""
    data = load_diabetes()
    targets = torch.tensor(data.target, dtype=torch.float32)
    targets = (targets - targets.mean()) / targets.std()
    inputs = torch.tensor(data.data, dtype=torch.float32) * len(data.data) ** 0.5
    splits = random_split(TensorDataset(inputs, targets), [200, 121, 121], torch.Generator().manual_seed(0))
    return Problem(
        *splits,
        build=lambda: nn.Sequential(nn.Linear(10, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 1)),
        loss=lambda outputs, batch: (outputs.squeeze(-1) - batch[1]).square(),
        batch=50,
        strengths={"weight_decay": {"strength": 1e-4}, "dropout": {"rate": 0.05}},
    )


# A language model --------------------------------------------------------------------------------------


class Characters(Dataset[tuple[Tensor, Tensor]]):
    """Pieces of a text as numbers of characters, and the same one further."""

    def __init__(self, numbers: Tensor, length: int) -> None:
        self.numbers, self.length = numbers, length

    def __len__(self) -> int:
        return (len(self.numbers) - 1) // self.length

    def __getitem__(self, position: int) -> tuple[Tensor, Tensor]:
        start = position * self.length
        piece = self.numbers[start : start + self.length + 1]
        return piece[:-1], piece[1:]


class Block(nn.Module):
    """Attention to what came before, and a small network for each character."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm, self.second_norm = nn.LayerNorm(width), nn.LayerNorm(width)
        self.query, self.key, self.value = (nn.Linear(width, width) for _ in range(3))
        self.out = nn.Linear(width, width)
        self.widen, self.narrow = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm(x)
        parts = (
            layer(y).unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for layer in (self.query, self.key, self.value)
        )
        mixed = F.scaled_dot_product_attention(*parts, is_causal=True)
        x = x + self.out(mixed.transpose(1, 2).flatten(-2))
        return x + self.narrow(F.gelu(self.widen(self.second_norm(x))))


class Reader(nn.Module):
    """Logits of the next character after each."""

    def __init__(self, characters: int, length: int, width: int = 64, blocks: int = 2) -> None:
        super().__init__()
        self.embedding = nn.Embedding(characters, width)
        self.position = nn.Parameter(0.02 * torch.randn(length, width))
        self.blocks = nn.Sequential(*(Block(width, heads=4) for _ in range(blocks)))
        self.head = nn.Linear(width, characters)

    def forward(self, numbers: Tensor) -> Tensor:
        return self.head(self.blocks(self.embedding(numbers) + self.position))


def characters(text: str, length: int = 64, used: int = 120_000) -> Problem:
    """Shakespeare, character by character, on so little of it that the network learns it by heart."""
    alphabet = sorted(set(text))
    numbers = torch.tensor([alphabet.index(character) for character in text[: 2 * used]])
    training, validation, test = numbers.split([used, used // 2, len(numbers) - used - used // 2])
    return Problem(
        *(Characters(part, length) for part in (training, validation, test)),
        build=lambda: Reader(len(alphabet), length),
        loss=lambda outputs, batch: Losses(F.cross_entropy(outputs.transpose(1, 2), batch[1], reduction="none")),
        batch=32,
        strengths={"weight_decay": {"strength": 1e-4}, "dropout": {"rate": 0.05}},
    )


# The loop -----------------------------------------------------------------------------------------------


def endless(loader: DataLoader[Any]) -> Iterator[Any]:
    while True:
        yield from loader


def train(problem: Problem, steps: int, seed: int, tuned: bool, **settings: Any) -> tuple[float, dict[str, float]]:
    """The test loss of the last network, and where the strengths are."""
    torch.manual_seed(seed)
    network = problem.build()
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-3, weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    tuner = OnlineTuner(
        network,
        optimizer,
        {
            name: {key: Tune(value) if tuned else value for key, value in settings.items()}
            for name, settings in problem.strengths.items()
        },
        forward=lambda network, batch: network(batch[0]),
        loss=problem.loss,
        validation=(DataLoader(problem.validation, batch_size=128, shuffle=True), problem.loss),
        seed=seed,
        **settings,
    )
    batches = endless(DataLoader(problem.training, batch_size=problem.batch, shuffle=True, drop_last=True))
    for _ in range(steps):
        tuner.loss(next(batches)).backward()
        tuner.step()
        schedule.step()
    return test_loss(problem, network), {name: float(value) for name, value in tuner.hyperparameters.items()}


@torch.no_grad()
def test_loss(problem: Problem, network: nn.Module) -> float:
    network.eval()
    losses = []
    for batch in DataLoader(problem.test, batch_size=256):
        found = problem.loss(network(batch[0]), batch)
        losses.append((found.values if isinstance(found, Losses) else found).flatten())
    return float(torch.cat(losses).mean())


def problems(text: Path) -> dict[str, Callable[[], Problem]]:
    found: dict[str, Callable[[], Problem]] = {"diabetes": diabetes}
    if text.exists():
        found["characters"] = lambda: characters(text.read_text(encoding="utf-8"))
    return found


def main() -> None:
    torch.set_num_threads(1)
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--text", type=Path, default=TEXT, help="the text that is read")
    parser.add_argument("--only", nargs="+", metavar="NAME")
    arguments = parser.parse_args()
    print("| problem | test loss, held | test loss, tuned | strengths at the end |")
    print("| --- | --- | --- | --- |")
    for name, make in problems(arguments.text).items():
        if arguments.only and name not in arguments.only:
            continue
        problem = make()
        held, tuned = (
            [train(problem, arguments.steps, seed, moves) for seed in range(arguments.seeds)]
            for moves in (False, True)
        )
        ends = {key: statistics.mean(end[key] for _, end in tuned) for key in tuned[0][1]}
        shown = ", ".join(f"{key} {value:.3g}" for key, value in ends.items())
        print(f"| {name} | {spread(held)} | {spread(tuned)} | {shown} |", flush=True)


def spread(runs: list[tuple[float, dict[str, float]]]) -> str:
    """Mean over the seeds, and from where to where."""
    losses = [loss for loss, _ in runs]
    return f"{statistics.mean(losses):.4f} ({min(losses):.4f} to {max(losses):.4f}, {len(losses)} seeds)"


if __name__ == "__main__":
    main()
