"""What tuning may cost beside training: how often, and on how many examples, a response is fitted and judged."""

from __future__ import annotations

import statistics
import warnings
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch

from selftune.shapes import Tensor
from selftune.training.stopwatch import Stopwatch

_KEPT = 9  # samples of each kind, of which the median counts
_MEASURED_STEPS = 12  # of a round of measuring: training steps, each with a fit
_EVERY = 500  # training steps from one round to the next
_FOR_HYPERGRADIENTS = 0.4  # their share of what tuning may cost
_FEWEST = 32  # validation examples of a hypergradient
_RAREST, _SMALLEST = 16, 8  # a fit after so many training steps, on such a part of a batch
_AS_GOOD = 0.6  # of the most examples per step that a budget buys


@dataclass(frozen=True)
class Economy:
    """How much work a response gets.

    Args:
        every: training steps from one fit to the next.
        parts: a fit takes one of so many parts of a batch.
        validation_parts: a hypergradient takes one of so many parts of a validation batch.
    """

    every: int = 1
    parts: int = 1
    validation_parts: int = 1


@dataclass(frozen=True)
class Seconds:
    """What one of each takes: a training step; a fit on one of p parts, fit[0] + fit[1] / p; a hypergradient.

    Args:
        scaled: how often as long a hypergradient takes that is one for the scales, too.
    """

    training: float
    fit: tuple[float, float]
    hypergradient: tuple[float, float]
    scaled: float = 1.0

    def fitting(self, every: int, parts: int) -> float:
        """Fits, per training step."""
        return (self.fit[0] + self.fit[1] / parts) / every


def cheapest_enough(
    seconds: Seconds, cost: float, cycle: float, scale_every: int, validation: int
) -> tuple[Economy, float]:
    """The economy that sees the most examples within a budget, and what it costs, in training steps.

    Args:
        cost: what a tuned training step may cost, in plain ones.
        cycle: training steps from one hypergradient to the next.
        scale_every: hypergradients from one that is for the scales, too, to the next.
        validation: examples of a whole validation batch.

    >>> seconds = Seconds(training=1.0, fit=(0.1, 1.5), hypergradient=(0.1, 0.9))
    >>> cheapest_enough(seconds, cost=2.0, cycle=5, scale_every=1, validation=600)
    (Economy(every=1, parts=3, validation_parts=1), 1.8)
    """
    budget = (cost - 1) * seconds.training
    mean = (scale_every - 1 + seconds.scaled) / scale_every

    def judging(parts: int) -> float:
        return mean * (seconds.hypergradient[0] + seconds.hypergradient[1] / parts) / cycle

    most = max(1, validation // _FEWEST)
    validation_parts = next((p for p in range(1, most) if judging(p) <= _FOR_HYPERGRADIENTS * budget), most)
    left = budget - judging(validation_parts)
    ways = [(every, parts) for every in range(1, _RAREST + 1) for parts in range(1, _SMALLEST + 1)]
    affordable = [way for way in ways if seconds.fitting(*way) <= left * (1 + 1e-9)]
    if affordable:
        seen = max(1 / (every * parts) for every, parts in affordable)
        # Of those nearly as good the freshest, which also needs the least memory.
        every, parts = next(way for way in affordable if 1 / (way[0] * way[1]) >= _AS_GOOD * seen)
    else:
        every, parts = min(ways, key=lambda way: seconds.fitting(*way))
    total = 1 + (seconds.fitting(every, parts) + judging(validation_parts)) / seconds.training
    return Economy(every, parts, validation_parts), total


class CostKeeper:
    """Says what a response may cost now: as it was told, or as a budget allows by what it has measured.

    It measures in rounds of some training steps, in which the response is fitted on parts of batches of two sizes
    in turns. On a CPU seconds are those of the processor. A GPU has to come to its end before the clock is read;
    between rounds nobody waits for it.

    Args:
        cost: what a tuned training step may cost, in plain ones; None keeps to ``economy``.
        cycle: training steps from one hypergradient to the next.
        scale_every: hypergradients from one that is for the scales, too, to the next.
        device: where everything is computed.
        mean: of a tensor over the processes that train together, so that all do the same.
        economy: what is kept to without a budget.
    """

    def __init__(
        self,
        cost: float | None,
        cycle: float,
        scale_every: int,
        device: torch.device,
        mean: Callable[[Tensor], Tensor],
        economy: Economy,
    ) -> None:
        self.cost, self.cycle, self.scale_every = cost, cycle, scale_every
        self.economy = economy if cost is None else Economy(parts=_SMALLEST // 2)
        self.expected: float | None = None
        """What a tuned training step costs by what was measured last, in plain ones; None before."""
        self._device, self._mean = device, mean
        self._watch = Stopwatch(device.type)
        self._until_round = 3  # the first steps are slow
        self._left = self._hypergradients_left = 0
        self._validation, self._warned = 0, False
        self._training: deque[float] = deque(maxlen=_KEPT)
        self._samples: dict[str, deque[tuple[float, float]]] = {
            kind: deque(maxlen=2 * _KEPT) for kind in ("fit", "hypergradient", "scaled")
        }

    def begin(self) -> None:
        """Training goes on: what was before, such as the way of a report, is nobody's time."""
        if self._left:
            self._read()

    def due(self, number: int) -> int | None:
        """After a training step: the response is fitted on one of so many parts of its batch; None for not."""
        if self.cost is None:
            return self.economy.parts if (number + 1) % self.economy.every == 0 else None
        if self._left:
            self._training.append(self._read())
            return _SMALLEST if self._left % 2 else _SMALLEST // 2
        self._until_round -= 1
        if self._until_round <= 0:
            self._left, self._hypergradients_left = _MEASURED_STEPS, 2 * max(2, self.scale_every)
            self._until_round = _EVERY
            self._read()
        return self.economy.parts if (number + 1) % self.economy.every == 0 else None

    @contextmanager
    def fitting(self, share: float) -> Iterator[None]:
        """Around a fit on a share of a batch."""
        measured = self._left > 0
        yield
        if measured:
            self._samples["fit"].append((share, self._read()))
            self._left -= 1
            if not self._left:
                self._choose()

    def judged(self, validation: int) -> int:
        """One of how many parts of a validation batch of so many examples the next hypergradient takes."""
        self._validation = validation
        measured = self._hypergradients_left > 0
        if self.cost is None or (not measured and self.expected is not None):
            return self.economy.validation_parts
        wanted = 2 * _FEWEST if self._hypergradients_left % 2 else 8 * _FEWEST
        return max(1, validation // wanted)

    @contextmanager
    def judging(self, share: float, scaled: bool) -> Iterator[None]:
        """Around a hypergradient of a share of a validation batch; ``scaled`` ones are for the scales, too."""
        if not self._hypergradients_left:
            yield
            return
        self._read()
        yield
        self._samples["scaled" if scaled else "hypergradient"].append((share, self._read()))
        self._hypergradients_left -= 1
        if not self._hypergradients_left:
            self._choose()

    def _read(self) -> float:
        """The seconds since it was read last."""
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
        return self._watch.taken()

    def _choose(self) -> None:
        assert self.cost is not None
        if not self._training or not self._samples["fit"]:
            return
        training = statistics.median(self._training)
        fit = _line(self._samples["fit"])
        judging, scaled = (0.0, 0.0), 1.0
        if self._samples["hypergradient"]:
            judging = _line(self._samples["hypergradient"])
            ratios = [t / max(1e-9, judging[0] + judging[1] * share) for share, t in self._samples["scaled"]]
            scaled = statistics.median(ratios) if ratios else 1.0
        elif self._samples["scaled"]:
            judging = _line(self._samples["scaled"])
        else:  # not known yet: what is theirs is kept for them
            judging = (_FOR_HYPERGRADIENTS * (self.cost - 1) * training * self.cycle, 0.0)
        found = torch.tensor([training, *fit, *judging, scaled], dtype=torch.float64, device=self._device)
        training, *rest, scaled = self._mean(found).tolist()
        seconds = Seconds(training, (rest[0], rest[1]), (rest[2], rest[3]), scaled)
        self.economy, self.expected = cheapest_enough(
            seconds, self.cost, self.cycle, self.scale_every, max(1, self._validation)
        )
        if self.expected > self.cost * (1 + 1e-6) and not self._warned:
            self._warned = True
            warnings.warn(
                f"method.cost {self.cost:g} cannot be kept here: with the least work, a tuned step costs"
                f" {self.expected:.2f}; raise method.train_steps, so that hyper-steps are rarer, or the cost",
                stacklevel=2,
            )

    def state_dict(self) -> dict[str, Any]:
        return {
            "economy": asdict(self.economy),
            "expected": self.expected,
            "until_round": self._until_round,
            "left": self._left,
            "hypergradients_left": self._hypergradients_left,
            "validation": self._validation,
            "training": list(self._training),
            "samples": {kind: list(samples) for kind, samples in self._samples.items()},
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.economy = replace(self.economy, **state["economy"])
        self.expected = state["expected"]
        self._until_round, self._left = state["until_round"], state["left"]
        self._hypergradients_left, self._validation = state["hypergradients_left"], state["validation"]
        self._training = deque(state["training"], maxlen=_KEPT)
        self._samples = {
            kind: deque([(share, taken) for share, taken in samples], maxlen=2 * _KEPT)
            for kind, samples in state["samples"].items()
        }
        self._read()


def _line(samples: deque[tuple[float, float]]) -> tuple[float, float]:
    """Seconds of work on a share x of a batch as a + b x, both at least 0, through the medians of two shares."""
    by_share: dict[float, list[float]] = {}
    for share, taken in samples:
        by_share.setdefault(share, []).append(taken)
    medians = sorted((share, statistics.median(taken)) for share, taken in by_share.items())
    (low, fast), (high, slow) = medians[0], medians[-1]
    slope = max(0.0, (slow - fast) / (high - low)) if high > low else slow / high
    return max(0.0, slow - slope * high), slope
