"""Small networks of kinds that people bring, and ways to train them."""

import torch
from torch import nn
from torch.nn.utils import parametrizations, spectral_norm, weight_norm

from selftune import Tune, tune
from selftune.lower_level.classification import Classification
from selftune.lower_level.optimization import Optimization
from selftune.methods import Response

_WARM = {"warmup_steps": 6}
METHODS = {
    "self_tuning": _WARM,
    "self_tuning, fixed scales": {**_WARM, "tune_scale": False},
    "self_tuning, thrifty": {
        **_WARM,
        "scale_every": 2,
        "validation_parts": 3,
        "response": Response(every=2, batch_parts=2, paired=True),
    },
    "self_tuning, STN": {**_WARM, "response": Response(centered=False, joint=True, linearize=False)},
    "implicit": {**_WARM, "system_steps": 2},
    "penalty": _WARM,
    "penalty, single loop": {**_WARM, "momentum": 0.5, "train_steps": 1},
    "inexact_line_search": {**_WARM, "train_steps": 6, "lanczos_steps": 2, "system_steps": 2},
    "held": {"train_steps": 6},
}
"""Methods for networks by name, with settings that take few steps, six of them as warm-up where there is one."""


def blobs(examples, seed, shape=(6,), dtype=torch.float32):
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(examples) % 3
    inputs = torch.randn(examples, *shape, generator=generator) + labels.view(-1, *[1] * len(shape))
    return inputs.to(dtype), labels


def task(build, shape=(6,), dtype=torch.float32, **optimization):
    splits = (blobs(examples, seed, shape, dtype) for seed, examples in enumerate((96, 96, 48)))
    return Classification(
        build, *splits, Optimization(**{"batch_size": 16, "learning_rate": 0.05, **optimization})
    )


def run(objective, label, regularizers=None, steps=24, **settings):
    """A whole run of a method."""
    method = label.partition(",")[0]
    return tune(
        objective,
        {"label_smoothing": {"epsilon": Tune(0.1)}} if regularizers is None else regularizers,
        steps=steps,
        method=method,
        trainers=2 if method == "penalty" else 1,
        **METHODS[label],
        **settings,
    )


def perceptron(middle=nn.Identity, width=16):
    """Two layers with something between them."""
    return nn.Sequential(nn.Linear(6, width), middle(), nn.ReLU(), nn.Linear(width, 3))


def normed(how):
    """A perceptron whose middle layer has its weight computed by a norm of torch's."""
    return perceptron(lambda: how(nn.Linear(16, 16)))


NORMS = {
    "weight_norm, hook": weight_norm,
    "weight_norm, parametrization": parametrizations.weight_norm,
    "spectral_norm, hook": spectral_norm,
    "spectral_norm, parametrization": parametrizations.spectral_norm,
}


def in_place():
    activations = [nn.ReLU(inplace=True), nn.ELU(inplace=True)]
    return nn.Sequential(nn.Linear(6, 16), activations[0], nn.Linear(16, 16), activations[1], nn.Linear(16, 3))


def convolutional(memory_format=torch.contiguous_format, dtype=torch.float32):
    return nn.Sequential(
        nn.Conv2d(2, 4, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(16, 3)
    ).to(dtype=dtype, memory_format=memory_format)
