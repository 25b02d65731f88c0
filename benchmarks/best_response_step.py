"""Seconds per step of a converted network against the plain network's training step.

    python benchmarks/best_response_step.py [--steps N]

Four steps on the same batch: plain training, elementary step (the converted network, gates off), response step
(linearised pass, loss, backward to the response set, optimizer), and the response step of the official Delta-STN
code, which gets the Jacobian-vector product by double backward and gradients for all parameters. They are
interleaved, one of each per round in a random order, so that a busy machine slows all of them alike; the table
shows medians, of the seconds and of the ratios within a round. One thread, n = 7 hyperparameters.
"""

from __future__ import annotations

import argparse
import copy
import random
import statistics
import time
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import nn

from selftune.hypergradients.best_response import BestResponse, convert
from selftune.networks.modes import constant_buffers

HYPERPARAMETERS = 7
STEPS = ("plain", "elementary", "response", "response by double backward")


def mlp() -> tuple[nn.Module, torch.Tensor]:
    layers = (nn.Linear(64, 256), nn.ReLU(), nn.Linear(256, 256), nn.ReLU(), nn.Linear(256, 10))
    return nn.Sequential(*layers), torch.randn(64, 64)


def cnn() -> tuple[nn.Module, torch.Tensor]:
    blocks = [
        layer
        for before, after in ((3, 10), (10, 20), (20, 40))
        for layer in (nn.Conv2d(before, after, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2))
    ]
    return nn.Sequential(*blocks, nn.Flatten(), nn.Linear(640, 10)), torch.randn(128, 3, 32, 32)


NETWORKS = {"MLP 64-256-256-10, batch 64": mlp, "CNN 3-10-20-40, batch 128": cnn}


def optimizer(*modules: nn.Module) -> torch.optim.Optimizer:
    parameters = [parameter for module in modules for parameter in module.parameters()]
    return torch.optim.SGD(parameters, lr=1e-3, momentum=0.9, foreach=True)


def training_step(model: nn.Module, inputs: torch.Tensor, targets: torch.Tensor) -> Callable[[], None]:
    descent = optimizer(model)

    def step() -> None:
        descent.zero_grad()
        F.cross_entropy(model(inputs), targets).backward()
        descent.step()

    return step


def response_step(response: BestResponse, inputs: torch.Tensor, targets: torch.Tensor) -> Callable[[], None]:
    descent = optimizer(response)

    def step() -> None:
        descent.zero_grad()
        h = torch.randn(len(inputs), HYPERPARAMETERS)
        F.cross_entropy(response.linearized(h, inputs), targets).backward()
        descent.step()

    return step


def double_backward_step(
    response: BestResponse, inputs: torch.Tensor, targets: torch.Tensor
) -> Callable[[], None]:
    descent = optimizer(response)

    def step() -> None:
        descent.zero_grad()
        response.model.zero_grad()
        h = torch.randn(len(inputs), HYPERPARAMETERS)
        origin = torch.zeros_like(h, requires_grad=True)
        with constant_buffers(response.model):
            outputs = response.perturbed(origin, inputs)
        cotangent = torch.zeros_like(outputs, requires_grad=True)
        (pulled,) = torch.autograd.grad(outputs, origin, cotangent, create_graph=True)
        (tangent,) = torch.autograd.grad(pulled, cotangent, h, create_graph=True)
        F.cross_entropy(outputs + tangent, targets).backward()
        descent.step()

    return step


def measure(build: Callable[[], tuple[nn.Module, torch.Tensor]], rounds: int) -> list[list[float]]:
    """Seconds of each step, one list per kind of step."""
    torch.manual_seed(0)
    model, inputs = build()
    targets = torch.randint(10, (len(inputs),))

    def converted() -> tuple[nn.Module, BestResponse]:
        network = copy.deepcopy(model)
        generator = torch.Generator().manual_seed(0)
        response = convert(network, hyperparameters=HYPERPARAMETERS, example=inputs, generator=generator)
        nn.init.normal_(response.gates, std=0.01)
        return network, response

    steps = (
        training_step(copy.deepcopy(model), inputs, targets),
        training_step(converted()[0], inputs, targets),
        response_step(converted()[1], inputs, targets),
        double_backward_step(converted()[1], inputs, targets),
    )
    seconds: list[list[float]] = [[] for _ in steps]
    order = random.Random(0)
    kinds = list(zip(steps, seconds, strict=True))
    for number in range(rounds + 5):
        order.shuffle(kinds)
        for step, times in kinds:
            start = time.perf_counter()
            step()
            if number >= 5:
                times.append(time.perf_counter() - start)
    return seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=200, help="timed steps of each kind (default 200)")
    rounds = parser.parse_args().steps
    if rounds < 1:
        parser.error("--steps must be at least 1")
    torch.set_num_threads(1)
    print("| network | step | milliseconds | plain steps |\n| --- | --- | --- | --- |")
    for network, build in NETWORKS.items():
        seconds = measure(build, rounds)
        for name, times in zip(STEPS, seconds, strict=True):
            ratio = statistics.median(t / plain for t, plain in zip(times, seconds[0], strict=True))
            print(f"| {network} | {name} | {1e3 * statistics.median(times):.2f} | {ratio:.2f} |")


if __name__ == "__main__":
    main()
