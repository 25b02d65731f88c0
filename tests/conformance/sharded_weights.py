"""Every regularizer in a trainer of one process, or of two of which each holds a part of the weights."""

import sys
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parent.parent))  # of a process of its own
sys.path.insert(0, str(Path(__file__).parent))

import shared_batches
from trainers import fixed, replay, trainer_of, weights

from selftune.networks import sharded_weights


def trained(name, group=None):
    """The weights after some steps."""
    trainer = trainer_of(name, fixed(name), dtype=torch.float64)
    if group is not None:
        trainer.share(group, sharded=True)
    replay(trainer)
    return weights(trainer)


def process(rank, folder, names):
    sharded_weights._SMALLEST = 1
    shared_batches.process(rank, folder, names, trained)
