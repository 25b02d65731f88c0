"""What a tuned training step costs beside a plain one: time and memory. Part of cost.py and real_networks.py."""

from __future__ import annotations

import random
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn

from selftune import Losses, OnlineTuner, Response, Tune
from selftune.training.estimators.response import ResponseEstimator

CYCLE = 5
"""Training steps from one hyper-step to the next: what is measured is a whole cycle, divided by these."""

Cycle = Callable[[], None]


@dataclass(frozen=True)
class Problem:
    """A network, batches for it, its loss, and what is tuned while it trains.

    Args:
        build: makes the network.
        batch: a training and a validation batch, what enters the network first.
        loss: of outputs and a batch: one value per example, or ``Losses`` per token.
        tuned: start values of regularizers' hyperparameters by name; ``parts`` as in settings.
    """

    build: Callable[[], nn.Module]
    batch: tuple[Any, Any]
    loss: Callable[[Any, Any], torch.Tensor | Losses]
    tuned: Mapping[str, Mapping[str, Any]]

    def settings(self, held: bool = False) -> dict[str, dict[str, Any]]:
        return {
            name: {key: value if held or key == "parts" else Tune(value) for key, value in settings.items()}
            for name, settings in self.tuned.items()
        }


@dataclass(frozen=True)
class Cost:
    """Of a tuned step, beside a plain one: how often its time and its peak memory; what share responds.

    ``economy`` says how much work the method does.
    """

    hyperparameters: int
    plain_milliseconds: float
    time: float
    memory: float
    plain_megabytes: float
    responding: float
    economy: str = ""


def descent(network: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.SGD(network.parameters(), lr=1e-3, momentum=0.9)


def mean(losses: torch.Tensor | Losses) -> torch.Tensor:
    return losses.mean()


def plain_cycle(problem: Problem) -> Cycle:
    """Training as in bare PyTorch."""
    network = problem.build()
    optimizer, batch = descent(network), problem.batch[0]

    def cycle() -> None:
        for _ in range(CYCLE):
            mean(problem.loss(network(batch[0]), batch)).backward()
            optimizer.step()
            optimizer.zero_grad()

    return cycle


def tuner_of(problem: Problem, held: bool = False, **settings: Any) -> OnlineTuner:
    """A tuner of a fresh network; ``held``, its regularizers act and nothing is tuned."""
    network = problem.build()
    return OnlineTuner(
        network,
        descent(network),
        problem.settings(held),
        forward=lambda network, batch: network(batch[0]),
        loss=problem.loss,
        validation=([problem.batch[1]], problem.loss),
        **({} if held else {"warmup_steps": 0, "train_steps": CYCLE, **settings}),
    )


def cycle_of(tuner: OnlineTuner, problem: Problem) -> Cycle:
    """The same with everything that tuning adds: regularizers, the response, a hyper-step at the end."""
    batch = problem.batch[0]

    def cycle() -> None:
        for _ in range(CYCLE):
            tuner.loss(batch).backward()
            tuner.step()

    return cycle


def measure(problem: Problem, rounds: int, settle: int = 1, **settings: Any) -> Cost:
    """Cycles of both alternate, in a random order, so that a busy machine slows both alike; sums of rounds.

    Args:
        settle: cycles before, in which a method with a budget looks at what things cost.
        settings: of the method; ``held``: nothing is tuned.
    """
    tuner = tuner_of(problem, **settings)
    cycles = {"plain": plain_cycle(problem), "tuned": cycle_of(tuner, problem)}
    cycles["plain"]()
    for _ in range(settle):
        cycles["tuned"]()
    settled = _settled(tuner, settings)
    seconds: dict[str, list[float]] = {name: [] for name in cycles}
    for _ in range(rounds):
        for name, cycle in random.sample(sorted(cycles.items()), 2):
            begin = _now()
            cycle()
            seconds[name].append(_now() - begin)
    coverage, hyperparameters = tuner.coverage, len(tuner.space)
    del cycles, tuner
    plain = peak_bytes(plain_cycle, problem)
    tuned = peak_bytes(lambda problem: cycle_of(tuner_of(problem, **settled), problem), problem)
    return Cost(
        hyperparameters=hyperparameters,
        plain_milliseconds=1000 * statistics.median(seconds["plain"]) / CYCLE,
        # Hyper-steps differ from one to the next, so that a median would leave the dear ones out.
        time=sum(seconds["tuned"]) / sum(seconds["plain"]),
        memory=tuned / plain,
        plain_megabytes=plain / 2**20,
        responding=(coverage.responding or 0) / coverage.total,
        economy=_words(settled),
    )


def _settled(tuner: OnlineTuner, settings: dict[str, Any]) -> dict[str, Any]:
    """The settings that a method with a budget has come to, which cost the same without one."""
    if settings.get("cost") is None:
        return settings
    estimator = tuner.estimator
    assert isinstance(estimator, ResponseEstimator)
    economy = estimator.keeper.economy
    return {
        **{name: value for name, value in settings.items() if name != "cost"},
        "scale_every": estimator.keeper.scale_every,
        "validation_parts": economy.validation_parts,
        "response": replace(estimator.settings, every=economy.every, batch_parts=economy.parts),
    }


def _words(settings: dict[str, Any]) -> str:
    """How much work there is."""
    if settings.get("held"):
        return "none"
    response = settings.get("response", Response())
    part = "all" if response.batch_parts == 1 else f"1/{response.batch_parts}"
    judged = settings.get("validation_parts", 1)
    return f"every {response.every}, {part} of a batch, {'all' if judged == 1 else f'1/{judged}'} of validation"


def peak_bytes(make: Callable[[Problem], Cycle], problem: Problem) -> int:
    """The most that tensors held at once in the second cycle of a network's training.

    On a GPU that is ``torch.cuda.max_memory_allocated``; on a CPU the events of torch's profiler, one for each
    block that torch's allocator gives or takes back. What kernels take from elsewhere for a moment is not in it.
    """
    if torch.get_default_device().type == "cuda":
        before = torch.cuda.memory_allocated()
        cycle = make(problem)
        cycle()
        torch.cuda.reset_peak_memory_stats()
        cycle()
        return torch.cuda.max_memory_allocated() - before
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profile:
        cycle = make(problem)  # within, so that what it holds is counted
        cycle()
        with torch.profiler.record_function(_MARK):
            cycle()
    events = sorted(profile.profiler.kineto_results.events(), key=lambda event: event.start_ns())
    held = peak = 0
    measured = False
    for event in events:
        measured = measured or event.name() == _MARK
        if event.name() == "[memory]":
            held += event.nbytes()
            peak = max(peak, held * measured)
    return peak


_MARK = "the second cycle"


def _now() -> float:
    """Seconds of computing: of the processor, however busy it is with other things, or of the GPU."""
    if torch.get_default_device().type == "cuda":
        torch.cuda.synchronize()
        return time.perf_counter()
    return time.process_time()
