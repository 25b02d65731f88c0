"""Networks as people have them: what tuning them costs.

    python benchmarks/real_networks.py cost [--network NAME ...] [--batch 32] [--steps 4] [--device cuda]

`cost` trains every network plainly and tuned, in turns, and prints how many plain steps a tuned step takes (all of
it: regularizers, fitting the response, a hyper-step after every fifth step), how much more memory it holds at its
peak (see step_cost.py for how that is measured), and the share of the parameters that respond. `--steps` is the
number of rounds of five steps. `--quick` does as little as shows that it runs.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F
from networks import GPT, ResNet18, VisionTransformer
from step_cost import Problem, measure

from selftune import Losses

TEXT = Path(__file__).parents[2] / "shared" / "data" / "shakespeare.txt"


def image_losses(outputs: torch.Tensor, batch: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
    return F.cross_entropy(outputs, batch[1], reduction="none")


def token_losses(outputs: torch.Tensor, batch: tuple[torch.Tensor, torch.Tensor]) -> Losses:
    return Losses(F.cross_entropy(outputs.transpose(1, 2), batch[1], reduction="none"))


def images(batch: int, size: int = 32) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.randn(batch, 3, size, size), torch.randint(10, (batch,))


def tokens(batch: int, vocabulary: int, length: int) -> tuple[torch.Tensor, torch.Tensor]:
    numbers = torch.randint(vocabulary, (batch, length + 1))
    return numbers[:, :-1], numbers[:, 1:]


DECAY_OF_LAYERS = {"weight_decay": {"strength": 1e-3, "parts": "layer"}}
EVERYWHERE = {"weight_decay": {"strength": 1e-3}, "dropout": {"rate": 0.1}}
SMOOTHING = {"label_smoothing": {"epsilon": 0.1}}


def small_resnet(batch: int) -> Problem:
    """With 21 weight decays, dropout and label smoothing: 23 hyperparameters."""
    tuned = {**DECAY_OF_LAYERS, "dropout": {"rate": 0.1}, **SMOOTHING}
    return Problem(lambda: ResNet18(width=16), (images(batch), images(batch)), image_losses, tuned)


def resnet(batch: int) -> Problem:
    return Problem(ResNet18, (images(batch), images(batch)), image_losses, {**EVERYWHERE, **SMOOTHING})


def vision_transformer(batch: int) -> Problem:
    build = lambda: VisionTransformer(dropout=0.1)  # noqa: E731
    return Problem(build, (images(batch), images(batch)), image_losses, {**EVERYWHERE, **SMOOTHING})


def decoder(batch: int) -> Problem:
    build = lambda: GPT(vocabulary=256, length=128, dropout=0.1)  # noqa: E731
    return Problem(build, (tokens(batch, 256, 128), tokens(batch, 256, 128)), token_losses, EVERYWHERE)


NETWORKS: dict[str, Callable[[int], Problem]] = {
    "small-resnet": small_resnet,
    "resnet-18": resnet,
    "vit": vision_transformer,
    "gpt": decoder,
}
"""By name: a problem of a batch size."""


def cost(names: list[str], batch: int, rounds: int) -> None:
    print("| network, batch | hyperparameters | plain step | tuned step | plain memory | tuned memory | respond |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for name in names:
        torch.manual_seed(0)
        found = measure(NETWORKS[name](batch), rounds)
        cells = [
            f"{name}, {batch}",
            str(found.hyperparameters),
            f"{found.plain_milliseconds:.0f} ms",
            f"{found.time:.2f} times",
            f"{found.plain_megabytes:.0f} MB",
            f"{found.memory:.2f} times",
            f"{100 * found.responding:.1f} %",
        ]
        print(f"| {' | '.join(cells)} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["cost"])
    parser.add_argument("--network", nargs="+", choices=list(NETWORKS), default=list(NETWORKS))
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--steps", type=int, default=4, help="rounds of five steps")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--quick", action="store_true", help="as little as shows that it runs")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    torch.set_default_device(arguments.device)
    cost(arguments.network, 4 if arguments.quick else arguments.batch, 1 if arguments.quick else arguments.steps)


if __name__ == "__main__":
    main()
