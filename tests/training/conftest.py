import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from selftune.hyperparameters import Tune
from selftune.lower_level.classification import Classification
from selftune.lower_level.optimization import Optimization
from selftune.regularization.regularizer import regularizers

sys.path.insert(0, str(Path(__file__).parent))  # for the networks that the tests share


def small_network():
    return nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 3))


def make_blobs(examples, seed):
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(examples) % 3
    return torch.randn(examples, 6, generator=generator) + labels[:, None], labels


@pytest.fixture
def blobs():
    return make_blobs


@pytest.fixture
def objective():
    return Classification(
        small_network,
        make_blobs(96, 0),
        make_blobs(48, 1),
        make_blobs(48, 2),
        Optimization(batch_size=16, learning_rate=0.05),
    )


@pytest.fixture
def regularization():
    """Every kind of hook: before the forward pass, on layers, on targets, in the loss, around the optimizer."""
    return [
        regularizers["dropout"](rate=Tune(0.2)),
        regularizers["weight_decay"](parts="layer", strength=Tune(1e-2)),
        regularizers["gaussian_input_noise"](sigma=Tune(0.1)),
        regularizers["label_smoothing"](epsilon=Tune(0.05)),
        regularizers["mixup"](alpha=Tune(0.3)),
        regularizers["max_norm"](limit=Tune(2.0)),
        regularizers["early_learning"](strength=Tune(0.5)),
        regularizers["decoupled_weight_decay"](strength=Tune(0.1)),
    ]
