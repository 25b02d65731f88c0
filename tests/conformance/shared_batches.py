"""Every regularizer in trainers of one process, or of two that share every batch."""

import sys
import tempfile
from datetime import timedelta
from pathlib import Path

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import nn

sys.path.insert(0, str(Path(__file__).parent.parent))  # of a process of its own
sys.path.insert(0, str(Path(__file__).parent))

import conformance_objectives
from trainers import NAMES, fixed, go_on, replay, trainer_of, tuned, weights

from selftune.errors import SettingError
from selftune.training.process_group import DataParallelGroup

_cnn = conformance_objectives.cnn


def without_batch_statistics():
    """The network for images with groups of channels in the place of batches."""
    network = _cnn()
    network.norm = nn.GroupNorm(2, 4)
    return network


OF_NORMS = {"adaptive_deviation", "ghost_batch_norm"}
"""Entries that place layers which take statistics of the part of a batch that they see."""
SHARED = [name for name in NAMES if name not in OF_NORMS]


def trained(name, group=None):
    """What training has come to: with everything tuned that may be, and at fixed values."""
    made = [trainer_of(name, members, dtype=torch.float64) for members in (tuned(name), fixed(name))]
    for trainer in made if group is not None else ():
        trainer.share(group)
    report = go_on(made[0], 5)
    replay(made[1])
    found = getattr(report, "hypergradient", None)
    return {
        "weights": torch.cat([weights(trainer) for trainer in made]),
        "hypergradient": torch.zeros(1) if found is None else found.hypergradient,
    }


def process(rank, folder, names, trained=trained):
    torch.set_num_threads(1)
    conformance_objectives.cnn = without_batch_statistics
    meeting, patience = f"file://{folder}/meeting", timedelta(seconds=60)
    dist.init_process_group("gloo", init_method=meeting, rank=rank, world_size=2, timeout=patience)
    found = {}
    for name in names:
        try:
            found[name] = trained(name, DataParallelGroup())
        except SettingError as error:
            found[name] = str(error)
    torch.save(found, f"{folder}/{rank}.pt")
    dist.destroy_process_group()


def in_two_processes(process):
    """What both processes have found for every regularizer."""
    with tempfile.TemporaryDirectory() as folder:
        mp.spawn(process, (folder, SHARED), nprocs=2)
        return [torch.load(Path(folder) / f"{rank}.pt") for rank in range(2)]
