"""Networks of linear layers with ReLU between them."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

from torch import nn

from selftune.errors import SettingError


def perceptron(entering: int, hidden: Sequence[int], outputs: int) -> nn.Sequential:
    """A network with layers ``hidden1``, ``hidden2``... and ``output``.

    Args:
        entering: numbers of an example.
        hidden: units of every hidden layer; without any, the network is linear.

    Raises:
        SettingError: if a layer has no unit.

    >>> [name for name, _ in perceptron(4, (8,), 3).named_children()]
    ['hidden1', 'relu1', 'output']
    """
    check_hidden(hidden)
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    width = entering
    for number, units in enumerate(hidden, start=1):
        layers[f"hidden{number}"] = nn.Linear(width, units)
        layers[f"relu{number}"] = nn.ReLU()
        width = units
    layers["output"] = nn.Linear(width, outputs)
    return nn.Sequential(layers)


def check_hidden(hidden: Sequence[int]) -> None:
    """Refuses layers without units.

    Raises:
        SettingError: naming the setting ``hidden``.
    """
    if any(units < 1 for units in hidden):
        raise SettingError("hidden", f"every layer needs at least one unit, got {list(hidden)}")
