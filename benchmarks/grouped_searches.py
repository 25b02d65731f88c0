"""Random search, ASHA and PBT over values of groups, one network after the other. Part of thousands.py.

All of them train with the values held between two looks; what they hand over is the network that was best on the
validation split at any look.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from crowd_digits import FAMILIES, drawn, groups_of, vector

from selftune.methods.reports import Diverged
from selftune.methods.values import Values
from selftune.methods.work_orders import EvaluateNetwork, Train
from selftune.training import Trainer

Groups = Mapping[str, float]
Measures = Mapping[str, float]


@dataclass
class Best:
    """The best network on the validation split that was looked at."""

    measures: Measures = field(default_factory=lambda: {"validation_loss": math.inf})
    steps: int = 0

    def look(self, trainer: Trainer) -> float:
        """Measures the trainer's network; its validation loss."""
        measures = trainer.execute(EvaluateNetwork(splits=("validation", "test"))).measures
        if measures["validation_loss"] < self.measures["validation_loss"]:
            self.measures = measures
        return float(measures["validation_loss"])


@dataclass
class Member:
    """One network in training with the values of its groups."""

    trainer: Trainer
    groups: Groups
    loss: float = math.inf

    def train(self, steps: int, best: Best, looks: int = 1) -> None:
        """Trains with the values held, and looks at equal distances; what diverges stays at a loss of infinity."""
        space = self.trainer.space
        constrained = vector(space, self.groups)
        values = Values(space.unconstrain(constrained), constrained, 0)
        for _ in range(looks):
            order = Train(values=values, steps=steps // looks, hypergradient=False, estimator="held", end="here")
            report = self.trainer.execute(order)
            best.steps += steps // looks
            if isinstance(report, Diverged):
                self.loss = math.inf
                return
            self.loss = best.look(self.trainer)


Make = Callable[[int], Trainer]
"""Makes a fresh trainer, with random numbers of its own by number."""


def draws(make: Make, start: Groups, seed: int) -> Iterator[Member]:
    """Members of a search: the first one at the start, the others at random values."""
    generator = torch.Generator().manual_seed(1000 + seed)
    yield Member(make(0), start)
    number = 1
    while True:
        trainer = make(number)
        yield Member(trainer, drawn(groups_of(trainer.space), generator))
        number += 1


def random_search(make: Make, start: Groups, seed: int, steps: int, trials: int, looks: int) -> Best:
    """So many trials with all steps each."""
    best = Best()
    for _, member in zip(range(trials), draws(make, start, seed), strict=False):
        member.train(steps, best, looks)
    return best


def asha(make: Make, start: Groups, seed: int, steps: int, trials: int, looks: int, factor: int = 4) -> Best:
    """Asynchronous successive halving (arXiv 1810.05934), one worker: rungs at 1/16, 1/4 and all of the steps.

    A trial goes on where it is among the best ``1 / factor`` of its rung; where none does, another one begins.
    """
    best, rungs = Best(), [steps // factor**2, steps // factor, steps]
    waiting: list[list[Member]] = [[] for _ in rungs]
    promoted: list[set[int]] = [set() for _ in rungs]
    fresh = draws(make, start, seed)
    while best.steps < trials * steps:
        member, rung = next(fresh), 0
        for below in reversed(range(len(rungs) - 1)):
            ranked = sorted(waiting[below], key=lambda each: each.loss)
            best_of_rung = ranked[: len(ranked) // factor]
            ready = [e for e in best_of_rung if id(e) not in promoted[below] and math.isfinite(e.loss)]
            if ready:
                member, rung = ready[0], below + 1
                promoted[below].add(id(member))
                break
        first = rungs[rung - 1] if rung else 0
        member = Member(member.trainer, member.groups) if rung else member
        member.train(rungs[rung] - first, best, max(1, looks * (rungs[rung] - first) // steps))
        waiting[rung].append(member)
    return best


def pbt(make: Make, start: Groups, seed: int, steps: int, trials: int, looks: int) -> Best:
    """Population-based training (arXiv 1711.09846): after every look the worst quarter goes on from the best.

    Its values are then the best one's, each times 0.8 or 1.2, or drawn anew once in four times.
    """
    best, generator = Best(), torch.Generator().manual_seed(2000 + seed)
    population = [member for _, member in zip(range(trials), draws(make, start, seed), strict=False)]
    for _ in range(looks):
        for member in population:
            member.train(steps // looks, best)
        ranked = sorted(population, key=lambda each: each.loss)
        number = max(1, len(ranked) // 4)
        for good, bad in zip(ranked[:number], ranked[-number:], strict=True):
            bad.groups = _explored(good.groups, generator)
            _copy(good.trainer, bad.trainer)
    return best


def _explored(groups: Groups, generator: torch.Generator) -> dict[str, float]:
    anew, found = drawn(groups, generator), {}
    for name, value in groups.items():
        again, up = (float(torch.rand((), generator=generator)) for _ in range(2))
        _, _, low, high = FAMILIES[name.partition("[")[0]]
        found[name] = anew[name] if again < 0.25 else min(high, max(low, value * (1.2 if up < 0.5 else 0.8)))
    return found


def _copy(source: Trainer, target: Trainer) -> None:
    """Has a trainer go on from the state of another one."""
    state: Any = source.export_state("here")
    space = target.space
    values = Values(space.start, space.constrain(space.start), 0)
    order = Train(values=values, steps=0, hypergradient=False, estimator="held", start="copied")
    target.execute(order, state)


SEARCHES = {"random": random_search, "asha": asha, "pbt": pbt}
