"""How much of a network regularizers reach, and how much of it responds to hyperparameters."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from selftune.networks.inventory import Inventory
from selftune.regularization.composition import Regularizers


@dataclass(frozen=True)
class Coverage:
    """Numbers of parameters, a tensor with several names counted once.

    Attributes:
        total: of the network, as the objective builds it.
        reached: by every regularizer that acts on layers: in the weights of its layers, if it acts on weights in
            those that are trained.
        responding: in weights and biases that have gates; None where the method fits no response.

    >>> print(Coverage(1000, {"weight_decay": 900}, 950))
    weight_decay reaches 900 of 1,000 parameters (90 %)
    950 of 1,000 parameters respond (95 %)
    """

    total: int
    reached: Mapping[str, int]
    responding: int | None = None

    def __str__(self) -> str:
        lines = [f"{name} reaches {self._share(count)}" for name, count in self.reached.items()]
        if self.responding is not None:
            count, _, share = self._share(self.responding).rpartition(" (")
            lines.append(f"{count} respond ({share}")
        return "\n".join(lines)

    def _share(self, count: int) -> str:
        return f"{count:,} of {self.total:,} parameters ({100 * count / max(1, self.total):.0f} %)"


def coverage(
    regularizers: Regularizers, inventory: Inventory, responding: Iterable[str] | None = None
) -> Coverage:
    """What regularizers, bound to an objective, reach of its network.

    Args:
        responding: names of the parameters that have gates.
    """
    reached = {}
    for regularizer in sorted((r for r in regularizers.members if r.layers), key=lambda r: r.name):
        layers = {layer for layers in regularizer.layers.values() for layer in layers}
        weights = {weight for layer in layers for weight in inventory[layer].weights}
        if regularizer.acts_on_weights:
            weights -= inventory.frozen
        reached[regularizer.name] = sum(inventory.sizes[weight] for weight in weights)
    count = None if responding is None else sum(inventory.sizes.get(name, 0) for name in responding)
    return Coverage(sum(inventory.sizes.values()), reached, count)
