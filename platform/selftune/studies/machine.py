"""What this machine has for a study: memory, GPUs and CPUs; what asks for more is refused at once."""

from __future__ import annotations

import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from selftune.memory import machines_memory
from selftune.studies.mistakes import mistake

if TYPE_CHECKING:
    from selftune.studies.study import Study


@contextmanager
def within_memory(more: int | None = None) -> Iterator[None]:
    """Lets this process have no more than so many further bytes; by default what the machine has.

    The system promises more memory than there is and ends the process that uses it. Within the context what asks
    for too much is told so at once: torch raises RuntimeError, numpy and Python MemoryError.
    """
    more = machines_memory() if more is None else more
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    wanted = _size() + more
    bounds = [bound for bound in (soft, hard) if bound != resource.RLIM_INFINITY]
    resource.setrlimit(resource.RLIMIT_AS, (min([wanted, *bounds]), hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


def _size() -> int:
    """Bytes of address space in use; 0 where the system does not say."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[0])
    except OSError:
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE")


def check_device(study: Study) -> None:
    """Refuses a study that asks for GPUs on a machine that has none.

    Raises:
        Mistakes: with the key ``trainers.gpus``.
    """
    gpus = study.trainers.gpus_each
    if gpus and not torch.cuda.is_available():
        raise mistake(
            "trainers.gpus",
            f"asks for {gpus:g} GPU{'s' if gpus > 1 else ''} per trainer, but torch finds no CUDA device here;"
            " set gpus to 0, or run the study on a Ray cluster that has some",
        )


def check_workers(study: Study) -> None:
    """Refuses trainers of several workers in one process.

    Raises:
        Mistakes: with the key ``trainers.workers``.
    """
    if study.trainers.workers > 1:
        raise mistake(
            "trainers.workers", "are processes on Ray; leave out --local, or set it to 1, which gives the same"
        )


def check_room(study: Study) -> None:
    """Refuses a team that a Ray cluster of this machine alone could not hold.

    Raises:
        Mistakes: with the key ``trainers``.
    """
    number, cpus, there = study.trainers.number, study.trainers.cpus, os.cpu_count()
    workers = study.trainers.workers
    if there is not None and there / cpus < number * workers:
        plural, of = "s" if number > 1 else "", f" of {workers} workers" if workers > 1 else ""
        raise mistake(
            "trainers",
            f"{number} trainer{plural}{of} with {cpus:g} cpu{'' if cpus == 1 else 's'} each"
            f" do not fit on this machine's {there} cpus; lower number or cpus (0.5 shares one), use --local,"
            " or set RAY_ADDRESS to a larger cluster",
        )
