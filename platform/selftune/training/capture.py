"""What layers see and put out while a network runs, in plain and in linearised passes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import nn

from selftune.hypergradients.best_response import unwrap
from selftune.inventory import Inventory
from selftune.shapes import Tensor
from selftune.step import Outputs


class Capture:
    """Records the outputs of layers and the input of the last one, during ``recording`` only.

    Args:
        network: gets a hook per layer; they cost nothing while nothing is recorded.
        inventory: what the network is.
    """

    def __init__(self, network: nn.Module, inventory: Inventory) -> None:
        self._layers = tuple(layer.name for layer in inventory.running)
        self._seen: dict[str, Tensor] | None = None
        for name in self._layers:
            network.get_submodule(name).register_forward_hook(_Output(self, name))
        if inventory.last is not None and inventory.last_runs:
            network.get_submodule(inventory.last).register_forward_pre_hook(_Input(self))

    @contextmanager
    def recording(self) -> Iterator[dict[str, Tensor]]:
        """What is seen by name; the features under ``""``."""
        before, self._seen = self._seen, {}
        try:
            yield self._seen
        finally:
            self._seen = before

    def outputs(self, logits: Tensor, seen: dict[str, Tensor]) -> Outputs:
        """A pass's outputs with what was recorded of it."""
        return Outputs(logits, seen.get("", logits), [seen[name] for name in self._layers if name in seen])

    def record(self, name: str, value: Any) -> None:
        if self._seen is not None:
            self._seen[name] = unwrap(value, lambda pair: pair.value + pair.tangent)


class _Output:
    """A hook after one layer; a class, so that a network that carries it can be copied."""

    def __init__(self, capture: Capture, name: str) -> None:
        self.capture = capture
        self.name = name

    def __call__(self, module: nn.Module, arguments: tuple[Any, ...], output: Any) -> None:
        self.capture.record(self.name, output)


class _Input:
    def __init__(self, capture: Capture) -> None:
        self.capture = capture

    def __call__(self, module: nn.Module, arguments: tuple[Any, ...]) -> None:
        self.capture.record("", arguments[0])
