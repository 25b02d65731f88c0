"""Which gates a response has: full ones, or, with thousands of hyperparameters, factored ones."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import torch

from selftune.hypergradients.best_response.mixing import Mixing
from selftune.methods import Response
from selftune.regularization.layer_noise import LayerNoise
from selftune.regularization.regularizer import Regularizer
from selftune.shapes import Int, Tensor
from selftune.training.lower_level import LowerLevel

FULL_UP_TO = 256
"""The most hyperparameters for which ``auto`` takes full gates, of which every unit has one for each of them."""
_MOST_OWN = 64  # hyperparameters that one row may have of its own


def mixing_of(lower: LowerLevel, settings: Response) -> Mixing | None:
    """How the hyperparameters are mixed for factored gates; None for full ones."""
    if settings.gates == "full" or (settings.gates == "auto" and len(lower.space) <= FULL_UP_TO):
        return None
    families = [h.size for h in lower.space.tuned]
    return Mixing(families, settings.coordinates, own=own_columns(lower))


def own_columns(lower: LowerLevel) -> dict[str, Int[Tensor, "rows own"]]:
    """The columns of hyperparameters that belong to the rows of tensors, by the tensor's name; -1 for none.

    The strength of a unit's weights belongs to their row and to its bias, and so does noise on what a unit puts
    out. Noise on a channel that a layer sees belongs to the unit that makes it, where that can be told: one of the
    layer before, which makes one channel, or all those of a flattened map. What acts on examples of one class
    belongs to the output of that class.
    """
    found: dict[str, list[Int[Tensor, "rows own"]]] = {}
    first, members = 0, {r.name: r for r in lower.regularizers.members}
    for hyperparameter in lower.space.tuned:
        owner = members.get(hyperparameter.name.partition(".")[0])
        if owner is not None and owner.per_unit and hyperparameter.parts:
            for name, columns in _of_rows(lower, owner):
                found.setdefault(name, []).append(first + columns)
        if hyperparameter.per_class:
            for name, columns in _of_outputs(lower, hyperparameter.size):
                found.setdefault(name, []).append(first + columns)
        first += hyperparameter.size
    together = {name: torch.cat(columns, dim=1) for name, columns in found.items()}
    return {name: columns for name, columns in together.items() if columns.shape[1] <= _MOST_OWN}


def _of_outputs(lower: LowerLevel, classes: int) -> Iterator[tuple[str, Int[Tensor, "rows own"]]]:
    """The tensors of the last layer, if it has an output per class."""
    last = lower.inventory.last
    for layer in (layer for layer in lower.inventory.layers if layer.name == last):
        bias = f"{layer.name}.bias" if layer.name else "bias"
        for name in (*layer.weights, bias):
            if name in lower.parameters and len(lower.parameters[name]) == classes:
                yield name, torch.arange(classes)[:, None]


def _of_rows(lower: LowerLevel, owner: Regularizer) -> Iterator[tuple[str, Int[Tensor, "rows own"]]]:
    """Tensors whose rows are units of a regularizer, and which of its parts those are."""
    names = [layer.name for layer in lower.inventory.layers]
    before = {after: layer for layer, after in pairwise(names)}
    first = 0
    for layer, units in owner.units.items():
        if isinstance(owner, LayerNoise):
            maker = before.get(layer) if owner.sees_inputs else layer
            weights = () if maker is None else lower.inventory[maker].weights
            sizes = [len(units)] * len(weights[:1])
        else:
            maker, weights = layer, owner.weight_names(layer)
            sizes = [len(lower.parameters[weight]) for weight in weights]
        start = first
        for weight, size in zip(weights, sizes, strict=False):
            rows = len(lower.parameters[weight])
            if size % rows == 0:
                columns = torch.arange(start, start + size).view(rows, -1)
                yield weight, columns
                bias = lower.parameters.get(f"{maker}.bias" if maker else "bias")
                if len(weights) == 1 and bias is not None and len(bias) == rows:
                    yield f"{maker}.bias" if maker else "bias", columns
            start += size
        first += len(units)
