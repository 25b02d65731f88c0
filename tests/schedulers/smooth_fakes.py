"""Smooth problems whose searches backtrack, trainers that die on them, and the same search without a team."""

import os
import signal
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from ray_fakes import Recorder
from selftune.objectives.tasks.quadratic_bilevel import QuadraticBilevel

from selftune.methods import InexactLineSearch, InexactLineSearchSettings
from selftune.methods.reports import Diverged
from selftune.training import run_in_process
from selftune.training.smooth_trainer import SmoothTrainer, SmoothTrainerFactory

PROBLEM = QuadraticBilevel(parameter_count=8, hyperparameter_count=4)
SETTINGS = {"step": 100.0, "step_growth": 8.0, "backtracks": 10, "barzilai_borwein": False, "memory": 0}
STEPS = 12


def method(team_size=1, steps=STEPS):
    return partial(InexactLineSearch, None, steps, InexactLineSearchSettings(**SETTINGS), team_size)


def u_of(report):
    return report.tensors["unconstrained"].tolist()


def iterates(recorder):
    """Hyperparameters and step sizes, to the last bit; work and seconds are the team's own."""
    return [(event[6], event[7]) for event in recorder.of("hyper_step")]


def alone(factory=None):
    """What one trainer does in this process: iterates and final parameters."""
    recorder = Recorder()
    reports = run_in_process(method()(), {0: (factory or SmoothTrainerFactory(PROBLEM))(0)}, recorder)
    return iterates(recorder), reports[0]


class Mortal(SmoothTrainer):
    """Dies, once, when it gets its ``last``-th order of a kind: kills its process, or reports a divergence."""

    def __init__(self, objective, member, kind, last, marker):
        super().__init__(objective, member=member)
        self.kind, self.left, self.marker = kind, last, marker

    def execute(self, order, warm=None):
        self.left -= order.kind == self.kind
        if self.left == 0 and self.marker is None:
            return Diverged(number=order.number, message="the trainer was lost")
        if self.left == 0 and not self.marker.exists():
            self.marker.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return super().execute(order, warm)


@dataclass(frozen=True)
class Mortals:
    """Builds trainers of which one is mortal."""

    member: int
    kind: str
    last: int = 1
    marker: Path | None = None

    def __call__(self, member):
        if member == self.member:
            return Mortal(PROBLEM, member, self.kind, self.last, self.marker)
        return SmoothTrainer(PROBLEM, member=member)


class Traced(SmoothTrainer):
    """Writes down from what it starts: cold, from its own state, or from another trainer's."""

    def __init__(self, objective, member, starts):
        super().__init__(objective, member=member)
        self.starts = starts

    def execute(self, order, warm=None):
        where = "own" if order.start in self._states else "cold" if warm is None else "other"
        self.starts.append((self.member, order.kind, where))
        return super().execute(order, warm)


def close(left, right):
    """Whether two lists of iterates agree but for the accuracy of solves."""
    return len(left) == len(right) and all(
        torch.allclose(torch.tensor(a[0]), torch.tensor(b[0]), rtol=0.1, atol=0.1)
        for a, b in zip(left, right, strict=True)
    )
