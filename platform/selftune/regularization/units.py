"""Parts that are units of layers, or classes: their labels, and values in the shape of what they act on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from torch import nn

from selftune.errors import SettingError
from selftune.hyperparameters import Tune
from selftune.shapes import Float, Tensor

if TYPE_CHECKING:
    from selftune.lower_level.objective import NetworkObjective

PER_UNIT = "unit"
"""What ``parts`` are where there is one value per unit: per row of a weight, or per channel that noise acts on."""
PER_CLASS = "class"
"""What ``parts`` are where there is one value per class, which examples take by their label."""


def unit_labels(owner: str, units: int) -> tuple[str, ...]:
    """Labels of the units of a layer, or of one of its weights.

    >>> unit_labels("conv1", 2)
    ('conv1.0', 'conv1.1')
    """
    return tuple(f"{owner}.{unit}" if owner else str(unit) for unit in range(units))


def class_labels(objective: NetworkObjective) -> tuple[str, ...]:
    """Labels of the classes of an objective, their numbers.

    Raises:
        SettingError: with the key ``parts``, if examples do not have one label each that is a class.
    """
    labels = objective.quantities().get("labels")
    classes = getattr(objective, "classes", 0) if "classes" in objective.provides else 0
    if not classes or labels is None or labels.type != "integer" or labels.axes is None or len(labels.axes) != 1:
        raise SettingError("parts", f"cannot be classes: examples of {objective.title} do not have one each")
    return tuple(map(str, range(classes)))


def spread_over_units(value: Any, units: Mapping[str, Sequence[str]]) -> Any:
    """A setting that names layers as one that names units: all units of a layer get its number.

    Args:
        value: whatever a setting may be; what does not name layers alone is left as it is.
        units: labels of units by layer.

    >>> spread_over_units({"a": 0.1, "b": 0.2}, {"a": ["a.0", "a.1"], "b": ["b.0"]})
    {'a.0': 0.1, 'a.1': 0.1, 'b.0': 0.2}
    """
    if isinstance(value, Tune):
        return Tune(spread_over_units(value.start, units), value.domain)
    if not isinstance(value, Mapping) or not value or not value.keys() <= units.keys():
        return value
    return {label: number for layer, number in value.items() for label in units[layer]}


def along_rows(value: Float[Tensor, "rows"], weight: Float[Tensor, "rows ..."]) -> Float[Tensor, "rows ..."]:
    """A value per row of a weight in a shape that multiplies it."""
    return value.view(-1, *(1,) * (weight.ndim - 1))


def along_channels(value: Float[Tensor, "*batch channels"], like: Tensor, axis: int) -> Float[Tensor, "..."]:
    """A value per channel, of all examples or of each, with as many axes as ``like``.

    Args:
        axis: of the channels, counted from the end.

    >>> import torch
    >>> along_channels(torch.ones(3), torch.ones(2, 3, 8, 8), -3).shape
    torch.Size([1, 3, 1, 1])
    """
    batch, channels = (1, *value.shape)[-2:]
    return value.view(batch, *(1,) * (like.ndim + axis - 1), channels, *(1,) * (-axis - 1))


def channels_of(module: nn.Module, inputs: bool) -> tuple[int, int]:
    """How many channels a layer sees, or puts out, and their axis from the end; 0 where that is not known.

    >>> channels_of(nn.Conv2d(3, 8, 3), inputs=True), channels_of(nn.Linear(4, 2), inputs=False)
    ((3, -3), (2, -1))
    """
    names = ("in_features", "in_channels") if inputs else ("out_features", "out_channels")
    if isinstance(module, nn.Linear):
        return getattr(module, names[0]), -1
    if isinstance(module, nn.modules.conv._ConvNd):
        return getattr(module, names[1]), -1 - len(module.kernel_size)
    return 0, -1
