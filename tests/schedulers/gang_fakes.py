"""Trainers of several workers, one of which may die."""

import json
import os
import signal
from dataclasses import dataclass
from pathlib import Path

import ray
from ray._private.utils import psutil  # the one that Ray brings

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


@dataclass(frozen=True)
class NotedWorkers:
    """Makes trainers whose workers write where they are and at which addresses they listen, at every order."""

    factory: TrainerFactory
    folder: Path

    def __call__(self, member, team=0):
        trainer = self.factory(member, team)
        execute = trainer.execute

        def noting(order, warm=None):
            node = ray.get_runtime_context().get_node_id()
            sockets = psutil.Process().net_connections("tcp")
            listens = [socket.laddr.ip for socket in sockets if socket.status == psutil.CONN_LISTEN]
            place = self.folder / f"worker-{trainer.lower.group.rank}.json"
            (whole := place.with_suffix(".new")).write_text(json.dumps({"node": node, "listens": listens}))
            whole.replace(place)
            return execute(order, warm)

        trainer.execute = noting
        return trainer
