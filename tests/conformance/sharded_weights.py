"""Every regularizer in a trainer of one process, or of two of which each holds a part of the weights."""

import sys
from datetime import timedelta
from pathlib import Path

import torch
import torch.distributed as dist

sys.path.insert(0, str(Path(__file__).parent.parent))  # of a process of its own
sys.path.insert(0, str(Path(__file__).parent))

import conformance_objectives
from shared_batches import without_batch_statistics
from trainers import fixed, replay, trainer_of, weights

from selftune.errors import SettingError
from selftune.networks import sharded_weights
from selftune.training.process_group import DataParallelGroup


def trained(name, group=None):
    """The weights after some steps."""
    trainer = trainer_of(name, fixed(name), dtype=torch.float64)
    if group is not None:
        trainer.share(group, sharded=True)
    replay(trainer)
    return weights(trainer)


def process(rank, folder, names):
    torch.set_num_threads(1)
    conformance_objectives.cnn = without_batch_statistics
    sharded_weights._SMALLEST = 1
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
