"""Regularizers that replace a layer's weight by a function of trained tensors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn
from torch.func import functional_call
from torch.nn.utils import parametrize

from selftune.errors import SettingError
from selftune.networks.inventory import Layer
from selftune.networks.modes import evaluating
from selftune.networks.network_state import compute_hooked_weights, has_hooked_weight
from selftune.networks.precision import typed_as, widened
from selftune.regularization.regularizer import Regularizer, weight_of
from selftune.regularization.step import Step
from selftune.shapes import Tensor


class Reparameterization(Regularizer):
    """Base of what computes the weight of layers: override ``weight``, and where there is one its inverse.

    The trained tensor takes the weight's place in the network; other regularizers of weights act on it. Layers get
    the function of it, with the hyperparameters of the current step, or of the last one where no step runs.
    Extra tensors to train are made by ``tensors``. ``export`` gives plain weights.
    """

    kind = "reparam"
    per_layer = True
    needs = frozenset({"parameters"})

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self._values: dict[str, dict[str, Any]] = {}
        self._network: nn.Module | None = None

    def weight(self, original: Tensor, values: Mapping[str, Any], extra: _Weight, step: Step | None) -> Tensor:
        """The weight that the layer uses.

        Args:
            original: the trained tensor in the weight's place.
            values: this regularizer's hyperparameters for the layer's part.
            extra: holds the layer's extra tensors as attributes.
            step: the current training step; None in evaluation, where nothing is random.
        """
        raise NotImplementedError

    def inverse(self, weight: Tensor, values: Mapping[str, Any]) -> Tensor:
        """The trained tensor that gives ``weight``, so that attaching changes nothing."""
        return weight

    def tensors(self, weight: Tensor, values: Mapping[str, Any]) -> dict[str, Tensor]:
        """Extra tensors to train beside the weight, by name."""
        return {}

    def obstacle(self, layer: Layer) -> str:
        if layer.tied:
            return f"it shares its weight with {' and '.join(layer.tied)}, which would go on with another one"
        if layer.parametrized:
            return "its weight is computed by torch.nn.utils.parametrize already"
        if layer.hooked:
            return "its weight is computed by a hook of torch.nn.utils already"
        return super().obstacle(layer)

    def attach(self, network: nn.Module) -> None:
        self._network = network
        values = {name: h.value for name, h in self.bound.items()}
        for label, layers in self.layers.items():
            parts = {name: _part(self, name, label, value) for name, value in values.items()}
            self._values[label] = parts
            for layer in layers:
                module = network.get_submodule(layer)
                if parametrize.is_parametrized(module, "weight"):
                    other: Any = module.parametrizations["weight"]  # type: ignore[index]
                    raise SettingError(
                        self.name,
                        f"cannot be combined with {other[0].regularizer.name}: the weight of layer {layer} would"
                        " be reparameterised twice; give them different layers in parts",
                    )
                weight: Any = module.weight
                tensors = self.tensors(widened(weight.detach()), parts)
                extra = {name: typed_as(tensor, weight) for name, tensor in tensors.items()}
                parametrize.register_parametrization(module, "weight", _Weight(self, label, extra))
                if self.freezes:
                    module.parametrizations["weight"].original.requires_grad_(False)  # type: ignore[index, union-attr]

    def values_of(self, label: str) -> Mapping[str, Any]:
        """Current hyperparameters of a part; those of the last step where none runs."""
        step = self.step
        if step is None:
            return self._values[label]
        found = {name: self.value_by_part(step, name)[label] for name in self.bound}
        if not step.perturbed:
            self._values[label] = found
        return found

    def export(self, state: dict[str, Tensor]) -> None:
        assert self._network is not None
        for layers in self.layers.values():
            for layer in layers:
                weight = effective_weight(self._network, layer, state, {}).detach()
                for name in [key for key in state if key.startswith(_prefix(layer))]:
                    del state[name]
                state[weight_of(layer)] = weight

    def state_dict(self) -> dict[str, Any]:
        return {"values": self._values}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._values = dict(state["values"])


class _Weight(nn.Module):
    """The parametrization of one layer's weight."""

    def __init__(self, regularizer: Reparameterization, label: str, extra: Mapping[str, Tensor]) -> None:
        super().__init__()
        self.__dict__["regularizer"] = regularizer  # no submodule, whatever it holds
        self.label = label
        for name, tensor in extra.items():
            self.register_parameter(name, nn.Parameter(tensor))

    def forward(self, original: Tensor) -> Tensor:
        regularizer: Reparameterization = self.__dict__["regularizer"]
        weight = regularizer.weight(widened(original), regularizer.values_of(self.label), self, regularizer.step)
        return typed_as(weight, original)

    def right_inverse(self, weight: Tensor) -> Tensor:
        regularizer: Reparameterization = self.__dict__["regularizer"]
        return typed_as(regularizer.inverse(widened(weight), regularizer.values_of(self.label)), weight)


def effective_weight(
    network: nn.Module, layer: str, tensors: Mapping[str, Tensor], aliases: Mapping[str, str]
) -> Tensor:
    """The weight that a layer uses in evaluation when the network's tensors are these, by name.

    Args:
        aliases: further names of tensors, each with that in ``tensors``.
    """
    module, prefix = network.get_submodule(layer), _prefix(layer)
    if has_hooked_weight(module):
        held = f"{layer}." if layer else ""
        own = {f"layer.{name}": tensors[held + name] for name, _ in module.named_parameters(recurse=False)}
        hooked: Tensor = functional_call(_Hooked(module), own, ())
        return hooked
    if not parametrize.is_parametrized(module, "weight"):
        return tensors[aliases.get(weight_of(layer), weight_of(layer))]
    own = {name.removeprefix(prefix): tensors[name] for name in tensors if name.startswith(prefix)}
    function: Any = module.parametrizations["weight"]  # type: ignore[index]
    with evaluating(function):  # power iterations stay where they are
        weight: Tensor = functional_call(function, own, ())
    return weight


class _Hooked(nn.Module):
    """The weight that a hook of torch.nn.utils computes."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self) -> Tensor:
        compute_hooked_weights(self.layer)
        weight: Any = self.layer.weight
        return weight  # type: ignore[no-any-return]


def _prefix(layer: str) -> str:
    """What the names of the tensors behind a layer's weight begin with."""
    return f"{layer}.parametrizations.weight." if layer else "parametrizations.weight."


def _part(regularizer: Regularizer, name: str, label: str, value: Any) -> Any:
    """The start value of a hyperparameter in one part."""
    bound = regularizer.bound[name]
    return bound.value[bound.parts.index(label)] if bound.parts else value
