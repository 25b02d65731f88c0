"""Regularizers that change what layers see or put out while a training step runs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn

from selftune.networks.inventory import Inventory, Layer
from selftune.networks.precision import typed_as
from selftune.regularization.regularizer import Regularizer
from selftune.regularization.step import Step
from selftune.shapes import Tensor


class LayerNoise(Regularizer):
    """Base of what acts on the inputs of layers, or on their outputs: override ``on_input`` or ``on_output``.

    Nothing acts in evaluation, or in passes that no training step runs.
    """

    kind = "augment"
    per_layer = True

    def on_input(self, inputs: Tensor, step: Step, values: Mapping[str, Any]) -> Tensor:
        """What the layer sees instead of ``inputs``; ``values`` are the hyperparameters of the layer's part."""
        raise NotImplementedError

    def on_output(self, outputs: Tensor, step: Step, values: Mapping[str, Any]) -> Tensor:
        """What follows the layer instead of its ``outputs``."""
        raise NotImplementedError

    @property
    def _sees_inputs(self) -> bool:
        return type(self).on_input is not LayerNoise.on_input

    def candidates(self, inventory: Inventory) -> tuple[Layer, ...]:
        """Layers within whose forward no others run, recurrent ones among them."""
        return tuple(layer for layer in inventory.layers if layer.weight or not layer.encloses)

    def obstacle(self, layer: Layer) -> str:
        if self._sees_inputs or not layer.calls:
            return input_obstacle(layer)
        return "" if layer.plain_output else "it puts out more than one tensor"

    def attach(self, network: nn.Module) -> None:
        sees = self._sees_inputs
        for label, layers in self.layers.items():
            for layer in layers:
                module = network.get_submodule(layer)
                if sees:
                    module.register_forward_pre_hook(_Before(self, label))
                else:
                    module.register_forward_hook(_After(self, label))

    def values_of(self, step: Step, label: str) -> dict[str, Any]:
        return {name: self.value_by_part(step, name)[label] for name in self.bound}


def input_obstacle(layer: Layer) -> str:
    """Why what a layer sees cannot be changed by a hook on it; empty where it can."""
    if not layer.calls and layer.used:
        return "its weight is used without its forward, so that nothing placed on the layer ever acts"
    if not layer.calls:
        return "its forward never runs"
    if not layer.by_position:
        return "its input is given by name"
    if layer.inputs > 1:
        return f"its forward takes {layer.inputs} tensors"
    return "" if layer.floating else "what it sees are no real numbers"


class _Before:
    """The hook before one layer; a class, so that a network that carries it can be copied."""

    def __init__(self, regularizer: LayerNoise, label: str) -> None:
        self.regularizer = regularizer
        self.label = label

    def __call__(self, module: nn.Module, arguments: tuple[Any, ...]) -> tuple[Any, ...] | None:
        step = self.regularizer.step
        if step is None:
            return None
        inputs, *others = arguments
        changed = self.regularizer.on_input(inputs, step, self.regularizer.values_of(step, self.label))
        return (typed_as(changed, inputs), *others)


class _After:
    """The hook after one layer."""

    def __init__(self, regularizer: LayerNoise, label: str) -> None:
        self.regularizer = regularizer
        self.label = label

    def __call__(self, module: nn.Module, arguments: tuple[Any, ...], output: Any) -> Any:
        step = self.regularizer.step
        if step is None:
            return None
        changed = self.regularizer.on_output(output, step, self.regularizer.values_of(step, self.label))
        return typed_as(changed, output)
