"""What layers see and put out while a network runs, in plain and in linearised passes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import nn

from selftune.hypergradients.best_response import total
from selftune.networks.inventory import Inventory
from selftune.networks.precision import widened
from selftune.regularization.step import Outputs
from selftune.shapes import Tensor


class Seen:
    """What one pass has shown so far, by the name of the layer; the input of the last one under ``""``."""

    def __init__(self) -> None:
        self.values: dict[str, Tensor] = {}
        self.watched: dict[str, tuple[Tensor, int]] = {}
        """Tensors of the network's own, each with its version when it was seen."""


class Capture:
    """Records the outputs of layers and the input of the last one, during ``recording`` only.

    What is recorded are values that the layers gave, also where the network writes over them: values are copied
    until a pass has shown that nothing does.

    Args:
        network: gets a hook per layer; they cost nothing while nothing is recorded.
        inventory: what the network is.
    """

    def __init__(self, network: nn.Module, inventory: Inventory) -> None:
        self._layers = tuple(layer.name for layer in inventory.running)
        self._seen: Seen | None = None
        self._left_alone: set[str] = set()
        for name in self._layers:
            network.get_submodule(name).register_forward_hook(_Output(self, name))
        if inventory.last is not None and inventory.last_runs:
            network.get_submodule(inventory.last).register_forward_pre_hook(_Input(self))

    @contextmanager
    def recording(self) -> Iterator[Seen]:
        """What is seen, for ``outputs``."""
        before, self._seen = self._seen, Seen()
        try:
            yield self._seen
        finally:
            self._seen = before

    def outputs(self, logits: Tensor, seen: Seen) -> Outputs:
        """A pass's outputs with what was recorded of it.

        Raises:
            RuntimeError: if the network writes over a layer's output in some passes, and not in its first one.
        """
        for name, (value, version) in seen.watched.items():
            if value._version == version:
                self._left_alone.add(name)
            elif name in self._left_alone:
                raise RuntimeError(
                    f"the network writes in place over what layer {name!r} gave, which it did not do in another"
                    " pass; write out of place there (inplace=False)"
                )
        found = {name: widened(value) for name, value in seen.values.items()}
        logits = widened(logits)
        return Outputs(logits, found.get("", logits), [found[name] for name in self._layers if name in found])

    def record(self, name: str, value: Any) -> None:
        if self._seen is None:
            return
        plain: Tensor = total(value)
        if plain is value and not plain.is_inference():
            self._seen.watched[name] = plain, plain._version
        written_over = plain is value and name not in self._left_alone
        self._seen.values[name] = plain.clone() if written_over else plain


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
