"""How large a Ray cluster a study asks for: pods of workers, and what each of them has."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from selftune.studies.study import Trainers

_POD_CPUS = 4  # of a pod that holds several workers, unless one needs more
_CPU_MEMORY, _GPU_MEMORY = 4, 32  # GiB for each CPU, or GPU, of a pod


@dataclass(frozen=True)
class ClusterSize:
    """Pods of Ray workers for all of a study's trainers at once.

    Args:
        pods: how many.
        cpus: of each.
        gpus: of each.
        memory: of each, in GiB; half of it may be Ray's object store.
    """

    pods: int
    cpus: int
    gpus: int
    memory: int

    @property
    def shared_memory(self) -> int:
        """GiB of /dev/shm, which count as the pod's memory."""
        return max(1, self.memory // 3)


def size_of(trainers: Trainers, trials: int = 1, memory: int | None = None) -> ClusterSize:
    """The smallest cluster of equal pods that has room for ``trials`` teams at once.

    A worker of a trainer is never split between pods. Workers of less than a GPU, or of a few CPUs, share a pod.

    >>> from selftune.studies.study import Trainers
    >>> size_of(Trainers(number=6, cpus=2))
    ClusterSize(pods=3, cpus=4, gpus=0, memory=16)
    >>> size_of(Trainers(number=4, cpus=3, gpus=0.5))
    ClusterSize(pods=2, cpus=6, gpus=1, memory=32)
    >>> size_of(Trainers(number=2, workers=4, cpus=8, gpus_per_worker=1))
    ClusterSize(pods=8, cpus=8, gpus=1, memory=32)
    """
    workers = trainers.number * trainers.workers * trials
    gpus = math.ceil(trainers.gpus_each)
    if gpus:
        together = max(1, math.floor(gpus / trainers.gpus_each + 1e-9))
    else:
        together = max(1, math.floor(_POD_CPUS / trainers.cpus + 1e-9))
    together = min(together, workers)
    cpus = math.ceil(together * trainers.cpus - 1e-9)
    usual = _GPU_MEMORY * gpus if gpus else _CPU_MEMORY * cpus
    return ClusterSize(math.ceil(workers / together), cpus, gpus, memory or usual)
