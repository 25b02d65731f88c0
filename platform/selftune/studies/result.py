"""What ``tune`` found for a network, and what it can show of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import nn

from selftune.hyperparameters import Space
from selftune.methods import HyperStep
from selftune.schedule import Schedule
from selftune.studies.best_network import BestNetwork
from selftune.studies.course import Course
from selftune.studies.tuning_result import TuningResult


@dataclass(frozen=True, repr=False)
class Result(TuningResult):
    """What ``tune`` or ``replay`` found: a table where it is printed, a page with curves in a notebook.

    Attributes:
        hyperparameters: the values at the end, by name, with ``[part]`` where there are parts.
        trajectory: every hyper-step, in order; none where a schedule was replayed.
        network: the first trainer's plain network, in evaluation mode, on the CPU.
        metrics: validation and test loss (and accuracy, ...), averaged over ``networks``.
        schedule: what the hyperparameters did, to be followed in another training; None if they never moved.
        networks: number of networks that ``metrics`` are averages over.
        spread: standard deviations of ``metrics`` from network to network; empty if there is one.
        best: the network of the hyper-step where the metric was best, with its measures, hyperparameters and step;
            None where a schedule was replayed.

    >>> import numpy as np
    >>> schedule = Schedule(("dropout.rate",), np.array([100, 200]), np.array([[0.1], [0.3]]), ((0.0, 1.0),))
    >>> Result({"dropout.rate": 0.3}, (), nn.Identity(), {"test_loss": 0.25}, schedule)
    hyperparameter  start  end
    dropout.rate      0.1  0.3
    at the end, of one network: test loss 0.25
    """

    hyperparameters: Mapping[str, float]
    trajectory: Sequence[HyperStep]
    network: nn.Module
    metrics: Mapping[str, float]
    schedule: Schedule | None = None
    networks: int = 1
    spread: Mapping[str, float] = field(default_factory=dict)
    best: BestNetwork | None = None

    @property
    def _of(self) -> str:
        if self.networks == 1:
            return "of one network"
        return f"mean of {self.networks} networks ± standard deviation"

    def _best(self) -> tuple[int, str, float] | None:
        if self.best is None:
            return super()._best()
        return self.best.hyper_step, self.best.metric, self.best.value

    def course(self) -> Course:
        if self.trajectory or self.schedule is None:
            return super().course()
        steps = np.concatenate([[0], self.schedule.ends[:-1]])
        return Course(self.schedule.names, self._unit, steps, self.schedule.values)


def schedule_of(space: Space, trajectory: Sequence[HyperStep], steps: int) -> Schedule:
    """What the hyperparameters did in a run of so many training steps."""
    ends = np.array([step.training_step for step in trajectory])
    values = torch.stack([step.hyperparameters for step in trajectory]).double().cpu().numpy()
    return Schedule.of_run(space, ends, values, steps)
