"""Trainers of several workers, one of which may die."""

import os
import signal
from dataclasses import dataclass
from pathlib import Path

from selftune.training import TrainerFactory


@dataclass(frozen=True)
class MortalWorkers:
    """Makes trainers; the worker of a rank kills its process, once, when it gets the order of a number."""

    factory: TrainerFactory
    marker: Path
    rank: int
    number: int = 6

    def __call__(self, member, team=0):
        trainer, marker, rank, number = self.factory(member, team), self.marker, self.rank, self.number
        execute = trainer.execute

        def dying(order, warm=None):
            if trainer.lower.group.rank == rank and order.number == number and not marker.exists():
                marker.touch()
                os.kill(os.getpid(), signal.SIGKILL)
            return execute(order, warm)

        trainer.execute = dying
        return trainer
