"""Networks as people have them: what tuning them costs, and whether what it follows is the hypergradient.

    python benchmarks/real_networks.py cost [--network NAME ...] [--batch 32] [--steps 4] [--device cuda]
    python benchmarks/real_networks.py truth [--network NAME ...] [--steps 64] [--quick]

`cost` trains every network plainly and tuned, in turns, and prints how many plain steps a tuned step takes (all of
it: regularizers, fitting the response, a hyper-step after every fifth step), how much more memory it holds at its
peak (see step_cost.py for how that is measured), and the share of the parameters that respond. `--steps` is the
number of rounds of five steps.

`truth` compares learned hypergradients with finite differences of whole runs, on small networks of the same kinds
in float64 (see whole_runs.py): the cosine of the mean of `--steps` estimates at frozen weights, and that of one
alone. Where runs of half the horizon give another direction, the horizon is too short to judge by.

`--quick` does as little as shows that it runs.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F
from networks import AWDLSTM, GPT, ResNet18, VisionTransformer
from sklearn.datasets import load_digits
from step_cost import Problem, measure
from whole_runs import Case, truth

from selftune import Losses, Response


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


def recurrent(batch: int) -> Problem:
    """The layers of the paper on half the width, so that a CPU is through in a minute."""
    build = lambda: AWDLSTM(vocabulary=256, embedding=200, hidden=575)  # noqa: E731
    return Problem(build, (tokens(batch, 256, 35), tokens(batch, 256, 35)), token_losses, EVERYWHERE)


NETWORKS: dict[str, Callable[[int], Problem]] = {
    "small-resnet": small_resnet,
    "resnet-18": resnet,
    "vit": vision_transformer,
    "gpt": decoder,
    "awd-lstm": recurrent,
}
"""By name: a problem of a batch size."""


# Small ones, in float64 ---------------------------------------------------------------------------------


def digits(training: int = 96, validation: int = 256) -> tuple[Any, Any]:
    """Scikit-learn's images of 8 x 8, with three equal channels."""
    data = load_digits()
    order = torch.randperm(len(data.images), generator=torch.Generator().manual_seed(0))
    pixels = torch.tensor(data.images)[order, None].expand(-1, 3, -1, -1) / 8 - 1
    labels = torch.tensor(data.target)[order]
    end = training + validation
    return (pixels[:training], labels[:training]), (pixels[training:end], labels[training:end])


def cycles(training: int = 64, validation: int = 128, vocabulary: int = 12, length: int = 10) -> tuple[Any, Any]:
    """Numbers that go on as the two before them say, one in five of them at random."""
    generator = torch.Generator().manual_seed(0)
    numbers = torch.randint(vocabulary, (training + validation, length + 1), generator=generator)
    strange = torch.rand(numbers.shape, generator=generator) < 0.2
    for place in range(2, length + 1):
        following = (numbers[:, place - 1] + 2 * numbers[:, place - 2] + 1) % vocabulary
        numbers[:, place] = torch.where(strange[:, place], numbers[:, place], following)
    first, second = numbers.split([training, validation])
    return (first[:, :-1], first[:, 1:]), (second[:, :-1], second[:, 1:])


def decays(strength: float, **parts: list[str]) -> dict[str, dict[str, Any]]:
    return {"weight_decay": {"strength": strength, "parts": parts}}


def layers_of(network: torch.nn.Module, *but: str) -> list[str]:
    """Names of the linear and convolutional layers, but for some."""
    kinds = torch.nn.Linear | torch.nn.Conv2d
    return [name for name, module in network.named_modules() if isinstance(module, kinds) and name not in but]


def case_of_resnet() -> Case:
    build = lambda: ResNet18(width=4, blocks=1).double()  # noqa: E731
    groups = decays(0.03, stem=["conv1"], body=layers_of(build(), "conv1", "fc"), head=["fc"])
    return Case(Problem(build, digits(), image_losses, {**SMOOTHING, **groups}))


def case_of_vision_transformer() -> Case:
    layer = "encoder.layers.0."
    groups = decays(
        0.03,
        attention=["patches", f"{layer}self_attn"],
        mlp=[f"{layer}linear1", f"{layer}linear2"],
        head=["head"],
    )
    build = lambda: VisionTransformer(size=8, patch=4, width=16, depth=1, heads=2).double()  # noqa: E731
    return Case(Problem(build, digits(), image_losses, {**SMOOTHING, **groups}))


def case_of_decoder() -> Case:
    block = "blocks.0."
    groups = decays(
        0.03,
        tokens=["tokens"],
        attention=[f"{block}attention.qkv", f"{block}attention.out"],
        mlp=[f"{block}mlp.0", f"{block}mlp.2"],
    )
    build = lambda: GPT(12, 10, width=16, depth=1, heads=2).double()  # noqa: E731
    return Case(Problem(build, cycles(), token_losses, groups), response=Response(learning_rate=3e-3))


def case_of_lstm() -> Case:
    groups = decays(0.01, tokens=["embedding"], first=["layers.0"], second=["layers.1"])
    build = lambda: AWDLSTM(12, embedding=12, hidden=16, layers=2).double()  # noqa: E731
    return Case(Problem(build, cycles(), token_losses, groups))


CASES: dict[str, Callable[[], Case]] = {
    "resnet-18": case_of_resnet,
    "vit": case_of_vision_transformer,
    "gpt": case_of_decoder,
    "awd-lstm": case_of_lstm,
}


# Tables -------------------------------------------------------------------------------------------------


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


def compare(names: list[str], estimates: int, quick: bool) -> None:
    print("| network | hyperparameters | finite differences | half the horizon | mean estimate | one estimate |")
    print("| --- | --- | --- | --- | --- | --- |")
    for name in names:
        case = CASES[name]()
        if quick:
            case = replace(case, settling=4, horizon=4, fit=4)
        found = truth(case, estimates)
        cells = [
            f"{name}, {case.horizon} steps",
            ", ".join(found.names),
            ", ".join(f"{value:.2e}" for value in found.differences.tolist()),
            *(f"{cosine:.3f}" for cosine in (found.of_halfway, found.of_mean, found.of_one)),
        ]
        print(f"| {' | '.join(cells)} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["cost", "truth"])
    parser.add_argument("--network", nargs="+", choices=list(NETWORKS), help="by default all")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--steps", type=int, help="rounds of five steps (4); estimates of the hypergradient (64)")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--quick", action="store_true", help="as little as shows that it runs")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    torch.set_default_device(arguments.device)
    quick = arguments.quick
    if arguments.what == "cost":
        names = arguments.network or list(NETWORKS)
        cost(names, 4 if quick else arguments.batch, arguments.steps or (1 if quick else 4))
    else:
        names = [name for name in arguments.network or CASES if name in CASES]
        compare(names, arguments.steps or (2 if quick else 64), quick)


if __name__ == "__main__":
    main()
