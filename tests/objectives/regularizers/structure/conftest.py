import pytest
import torch
from torch import nn

from selftune.lower_level.classification import Classification
from selftune.lower_level.optimization import Optimization
from selftune.methods.work_orders import FollowSchedule
from selftune.training import Trainer


@pytest.fixture
def generator():
    return torch.Generator().manual_seed(0)


@pytest.fixture
def randn(generator):
    """Draws of the normal distribution in double precision."""
    return lambda *shape: torch.randn(*shape, generator=generator, dtype=torch.float64)


@pytest.fixture
def rotation(randn):
    """Random orthogonal matrices."""
    return lambda size: torch.linalg.qr(randn(size, size)).Q


CLASSES = 3


def _network():
    return nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 12), nn.ReLU(), nn.Linear(12, CLASSES))


@pytest.fixture
def objective(generator):
    """Vectors of three classes and a small network of three layers."""
    splits = []
    for examples in (64, 32, 32):
        labels = torch.arange(examples) % CLASSES
        splits.append((torch.randn(examples, 6, generator=generator) + labels[:, None], labels))
    return Classification(_network, *splits, Optimization(batch_size=16, learning_rate=0.05))


@pytest.fixture
def trainer(objective):
    """A trainer with the given regularizers, after some training steps out of 40."""

    def build(*regularizers, steps=0):
        made = Trainer(objective, regularizers, steps=40)
        return train(made, steps) if steps else made

    return build


def train(trainer, steps):
    report = trainer.execute(FollowSchedule(segments=((steps, torch.empty(0)),)))
    assert report.kind == "replay", report.message
    return trainer


@pytest.fixture
def go_on():
    """More training steps."""
    return train
