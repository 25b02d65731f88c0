"""A trial of two networks, one of whose processes can be killed once; a small search over it."""

import os
import signal
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from torch import nn

from selftune import Classification, Optimization, Tune
from selftune.methods import Budget, SelfTuning, SelfTuningSettings
from selftune.schedulers.sweep.trial import TrialPlan
from selftune.training import TrainerFactory

RATE = "objective.optimization.learning_rate"
STEPS = 60


def data(seed):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(48, 4, generator=generator)
    return x, (x.sum(dim=1) > 0).long()


def network():
    return nn.Linear(4, 2)


def method(members=2):
    return SelfTuning(Budget(steps=STEPS), SelfTuningSettings(warmup_steps=10, learning_rate=0.1), members)


@dataclass(frozen=True)
class Team:
    """Makes the trainers of a trial.

    Args:
        rate: learning rate of the networks.
        marker: a file that is there once member 1 has killed its process, after 30 training steps; None for never.
    """

    rate: float
    marker: Path | None = None

    def __call__(self, member):
        optimization = Optimization(batch_size=16, learning_rate=self.rate, momentum=0.0)
        objective = Classification(network, *map(data, range(3)), optimization)
        trainer = TrainerFactory(objective, {"weight_decay": {"strength": Tune(1e-3)}}, steps=STEPS)(member)
        execute = trainer.execute

        def dying(order, warm=None):
            if member == 1 and trainer.training_step >= 30 and not self.marker.exists():
                self.marker.touch()
                os.kill(os.getpid(), signal.SIGKILL)
            return execute(order, warm)

        if self.marker is not None:
            trainer.execute = dying
        return trainer


@dataclass(frozen=True)
class Plans:
    """Makes the plan of a trial."""

    marker: Path | None = None
    members: int = 2
    workers: int = 1

    def __call__(self, values):
        team = Team(values[RATE], self.marker)
        return TrialPlan(partial(method, self.members), team, self.members, STEPS, workers=self.workers)
