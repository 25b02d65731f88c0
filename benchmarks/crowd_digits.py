"""Digits of which several copies were labelled, some of them wrongly, and a small CNN. Part of thousands.py.

Every training image is there several times, moved by up to a pixel; each copy has a label of its own, and a third
of the labels are wrong. Validation and test images are there once, with their right labels.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

import torch
from selftune.objectives.data.digit_images import load_digit_splits
from selftune.objectives.regularizers.supervision.label_noise import label_noise
from torch import nn

from selftune import Classification, Optimization, Tune
from selftune.hyperparameters import Space
from selftune.regularization.regularizer import Regularizer, regularizers

VALIDATION = 300
WRONG = 0.33
BATCH = 64
EXAMPLE_WEIGHT = 0.5


def network(channels: int, width: int) -> nn.Sequential:
    """Two convolutions and two linear layers."""
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    layers["conv1"] = nn.Conv2d(1, channels, 3, padding=1)
    layers["relu1"] = nn.ReLU()
    layers["conv2"] = nn.Conv2d(channels, 2 * channels, 3, padding=1)
    layers["relu2"] = nn.ReLU()
    layers["pool"] = nn.MaxPool2d(2)
    layers["flatten"] = nn.Flatten()
    layers["hidden"] = nn.Linear(32 * channels, width)
    layers["relu3"] = nn.ReLU()
    layers["output"] = nn.Linear(width, 10)
    return nn.Sequential(layers)


def crowd_digits(images: int, copies: int, channels: int, width: int, seed: int = 0) -> Classification:
    """The objective: so many images in so many copies; the seed draws splits, shifts and wrong labels."""
    splits = load_digit_splits(images, VALIDATION, seed)
    (x, y), *others = [(inputs.view(-1, 1, 8, 8), labels) for inputs, labels in splits]
    generator = torch.Generator().manual_seed(seed)
    inputs, labels = x.repeat(copies, 1, 1, 1), y.repeat(copies)
    moves = torch.randint(-1, 2, (len(inputs), 2), generator=generator)
    moved = [torch.roll(one, tuple(by), (1, 2)) for one, by in zip(inputs, moves.tolist(), strict=True)]
    uniform, offset = torch.rand(2, len(labels), generator=generator)
    given = label_noise(labels, uniform, offset, WRONG, 10)
    return Classification(
        lambda: network(channels, width),
        (torch.stack(moved), given),
        *others,
        optimization=Optimization(batch_size=BATCH, learning_rate=0.05, momentum=0.9),
    )


FAMILIES: Mapping[str, tuple[str, str, float, float]] = {
    # what is tuned: parts where there is one value per unit or class, and the range of random starts
    "weight_decay.strength": ("unit", "layer", 1e-5, 1e-1),
    "gaussian_dropout.rate": ("unit", "layer", 0.01, 0.8),
    "gaussian_input_noise.sigma": ("class", "", 0.01, 1.0),
    "label_smoothing.epsilon": ("class", "", 1e-3, 0.4),
}


def members(fine: Mapping[str, bool], start: Mapping[str, float] | None = None) -> list[Regularizer]:
    """All regularizers, tuned.

    Args:
        fine: whether those by ``unit`` and by ``class`` have a value for each, or one per layer and in all.
        start: by group; None for the middle of their ranges.
    """
    built = []
    for full, (finest, coarsest, low, high) in FAMILIES.items():
        name, _, short = full.partition(".")
        parts = finest if fine[finest] else coarsest
        value: Any = math.sqrt(low * high)
        if start is not None:
            of_layers = {g.partition("[")[2].rstrip("]"): v for g, v in start.items() if g.startswith(f"{full}[")}
            value = of_layers or start[full]
        settings = {short: Tune(value)} | ({"parts": parts} if parts else {})
        built.append(regularizers[name](**settings))
    return built


def groups_of(space: Space) -> dict[str, list[int]]:
    """Columns by group: of a regularizer with one value per unit those of a layer, of others all of them.

    Weights of examples are in none: nobody searches over them.
    """
    groups: dict[str, list[int]] = {}
    for column, name in enumerate(space.names):
        family, _, part = name.partition("[")
        if family in FAMILIES:
            layer = part.rstrip("]").partition(".")[0] if FAMILIES[family][0] == "unit" else ""
            groups.setdefault(f"{family}[{layer}]" if layer else family, []).append(column)
    return groups


def drawn(groups: Mapping[str, Any], generator: torch.Generator) -> dict[str, float]:
    """A value for each group, log-uniform within its family's range."""
    found = {}
    for name in groups:
        _, _, low, high = FAMILIES[name.partition("[")[0]]
        share = float(torch.rand((), generator=generator, dtype=torch.float64))
        found[name] = low * (high / low) ** share
    return found


def vector(space: Space, values: Mapping[str, float]) -> torch.Tensor:
    """The constrained vector in which all of a group have its value, and examples their weight at the start."""
    result = torch.full((len(space),), EXAMPLE_WEIGHT)
    for name, columns in groups_of(space).items():
        result[columns] = values[name]
    return result
