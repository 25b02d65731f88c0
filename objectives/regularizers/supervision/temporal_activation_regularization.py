"""Temporal activation regularization: outputs of a recurrent layer that change from step to step cost."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import torch
from torch import nn

from selftune.hypergradients.best_response import total
from selftune.hyperparameters import Hyperparameter, Positive, StartRule
from selftune.networks.inventory import Layer
from selftune.networks.precision import widened
from selftune.registries.reference import Reference
from selftune.regularization.regularizer import Regularizer, register
from selftune.regularization.step import Step
from selftune.shapes import Float, Tensor


def temporal_activation_regularization(features: Float[Tensor, "batch time features"]) -> Float[Tensor, "batch"]:
    """The mean square of the change from one time step to the next; 0 of a sequence of one.

    Source: "Revisiting Activation Regularization for Language RNNs" (arXiv 1708.01009), where it is called TAR.

    >>> import torch
    >>> temporal_activation_regularization(torch.tensor([[[1.0], [3.0], [3.0]]]))
    tensor([2.])
    """
    changes = (features[:, 1:] - features[:, :-1]).square().flatten(1)
    return changes.sum(dim=1) / max(1, changes.shape[1])


@register
class TemporalActivationRegularization(Regularizer):
    """TAR: the last recurrent layer's outputs, before any dropout, change slowly; ``parts`` names other layers.

    Examples run along the first axis (``batch_first``).
    """

    name = "temporal_activation_regularization"
    family = "supervision"
    kind = "penalty"
    per_layer = True
    reference = Reference("Revisiting Activation Regularization for Language RNNs", "1708.01009")
    hyperparameters = (
        Hyperparameter(
            "strength",
            Positive(sweep=(0.01, 10.0)),
            1.0,
            shared=True,
            start=StartRule(1.0, "Regularizing and Optimizing LSTM Language Models (1708.02182)"),
        ),
    )
    needs = frozenset({"recurrent_layers", "logits"})
    axes: ClassVar = {"logits": ("batch", ...)}
    layer_filter: ClassVar[Callable[[nn.Module], bool] | None] = staticmethod(
        lambda module: isinstance(module, nn.RNNBase)
    )

    def candidates(self, inventory: Any) -> tuple[Layer, ...]:
        return tuple(inventory.layers)

    def default_layers(self, layers: tuple[str, ...]) -> tuple[str, ...]:
        return layers[-1:]

    def obstacle(self, layer: Layer) -> str:
        if not layer.calls:
            return "its forward never runs"
        return "" if layer.batch_axis == 0 else "the first axis of what it sees is not the batch"

    def attach(self, network: nn.Module) -> None:
        self._seen: dict[str, tuple[Step, Tensor]] = {}
        for layers in self.layers.values():
            for layer in layers:
                network.get_submodule(layer).register_forward_hook(_Record(self, layer))

    def record(self, layer: str, output: Tensor) -> None:
        """Keeps what a layer gives in the step's own pass, which is its first."""
        step = self.step
        if step is not None and (layer not in self._seen or self._seen[layer][0] is not step):
            self._seen[layer] = step, widened(total(output))

    def penalty(self, step: Step) -> Tensor:
        terms = []
        for layers in self.layers.values():
            costs = [temporal_activation_regularization(self._seen.pop(layer)[1]).mean() for layer in layers]
            terms.append(torch.stack(costs).sum())
        return terms[0] if self.parts is None else torch.stack(terms)


class _Record:
    """The hook after one recurrent layer; a class, so that a network that carries it can be copied."""

    def __init__(self, regularizer: TemporalActivationRegularization, layer: str) -> None:
        self.regularizer = regularizer
        self.layer = layer

    def __call__(self, module: nn.Module, arguments: tuple[Any, ...], output: tuple[Tensor, Any]) -> None:
        self.regularizer.record(self.layer, output[0])
