"""Regularizers that change what layers see or put out while a training step runs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn

from selftune.networks.inventory import Inventory, Layer
from selftune.networks.precision import typed_as
from selftune.regularization.regularizer import Regularizer
from selftune.regularization.step import Step
from selftune.regularization.units import along_channels, channels_of, unit_labels
from selftune.shapes import Tensor


class LayerNoise(Regularizer):
    """Base of what acts on the inputs of layers, or on their outputs: override ``on_input`` or ``on_output``.

    Nothing acts in evaluation, or in passes that no training step runs. With ``parts="unit"``, where it is
    ``unitwise``, every channel of what is acted on has a value of its own; units are then those channels.
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
    def sees_inputs(self) -> bool:
        """Whether it acts on what layers see, not on what they put out."""
        return type(self).on_input is not LayerNoise.on_input

    def candidates(self, inventory: Inventory) -> tuple[Layer, ...]:
        """Layers within whose forward no others run, recurrent ones among them."""
        return tuple(layer for layer in inventory.layers if layer.weight or not layer.encloses)

    def obstacle(self, layer: Layer) -> str:
        if self.sees_inputs or not layer.calls:
            return input_obstacle(layer)
        return "" if layer.plain_output else "it puts out more than one tensor"

    def attach(self, network: nn.Module) -> None:
        sees = self.sees_inputs
        for label, layers in self.layers.items():
            for layer in layers:
                module = network.get_submodule(layer)
                axis = channels_of(module, sees)[1]
                if sees:
                    module.register_forward_pre_hook(_Before(self, label, axis))
                else:
                    module.register_forward_hook(_After(self, label, axis))

    def _units_of(self, network: nn.Module, layer: str) -> tuple[str, ...]:
        return unit_labels(layer, channels_of(network.get_submodule(layer), self.sees_inputs)[0])

    def values_of(self, step: Step, label: str) -> dict[str, Any]:
        return {name: self.value_by_part(step, name)[label] for name in self.bound}

    def values_for(self, step: Step, label: str, like: Tensor, axis: int) -> dict[str, Any]:
        """``values_of``; those of single channels in a shape that multiplies what is acted on."""
        values = self.values_of(step, label)
        if not self.per_unit:
            return values
        return {
            name: along_channels(value, like, axis) if self.bound[name].parts else value
            for name, value in values.items()
        }


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

    def __init__(self, regularizer: LayerNoise, label: str, axis: int) -> None:
        self.regularizer = regularizer
        self.label = label
        self.axis = axis

    def __call__(self, module: nn.Module, arguments: tuple[Any, ...]) -> tuple[Any, ...] | None:
        step = self.regularizer.step
        if step is None:
            return None
        inputs, *others = arguments
        values = self.regularizer.values_for(step, self.label, inputs, self.axis)
        changed = self.regularizer.on_input(inputs, step, values)
        return (typed_as(changed, inputs), *others)


class _After:
    """The hook after one layer."""

    def __init__(self, regularizer: LayerNoise, label: str, axis: int) -> None:
        self.regularizer = regularizer
        self.label = label
        self.axis = axis

    def __call__(self, module: nn.Module, arguments: tuple[Any, ...], output: Any) -> Any:
        step = self.regularizer.step
        if step is None:
            return None
        values = self.regularizer.values_for(step, self.label, output, self.axis)
        changed = self.regularizer.on_output(output, step, values)
        return typed_as(changed, output)
