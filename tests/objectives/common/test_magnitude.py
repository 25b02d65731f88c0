"""Magnitudes grow while the network trains where validation images differ in what they augment."""

import torch
from torch import nn

from selftune import Classification, Optimization, Tune, tune

SIDE = 9


class Pixels(Classification):
    """Images of pixels in [0, 1]."""

    provides = Classification.provides | {"pixel_range"}

    def quantity(self, name, step):
        return torch.tensor([0.0, 1.0], device=step.inputs.device)


def network():
    return nn.Sequential(nn.Flatten(), nn.Linear(SIDE * SIDE, 32), nn.ReLU(), nn.Linear(32, 3))


def bright(examples, spread, generator, cue=0.0):
    """Which of three stripes is brightest; with a cue, the whole image says so, too."""
    labels = torch.arange(examples) % 3
    images = 0.3 + 0.05 * torch.randn(examples, 1, SIDE, SIDE, generator=generator)
    for example, label in enumerate(labels.tolist()):
        images[example, :, :, 3 * label : 3 * label + 3] += 0.06
    factor = 1 + cue * (labels - 1) + spread * (2 * torch.rand(examples, generator=generator) - 1)
    return (factor[:, None, None, None] * images).clamp(0, 1), labels


def tuned(name, start, train, other):
    optimization = Optimization(batch_size=32, optimizer="adam", learning_rate=0.01)
    objective = Pixels(network, train, other, other, optimization)
    result = tune(objective, {name: {"magnitude": Tune(start)}}, steps=500, warmup_steps=50, learning_rate=0.03)
    return result.hyperparameters[f"{name}.magnitude"]


def test_brightness_grows_where_validation_images_are_brighter_or_darker():
    generator = torch.Generator().manual_seed(0)
    train, other = bright(96, 0.0, generator, cue=0.2), bright(192, 0.5, generator)
    assert tuned("brightness", 0.1, train, other) > 0.2
