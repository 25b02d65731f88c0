"""Nested dropout: only the first k features are kept."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from selftune.data.nested import moved
from selftune.hyperparameters import Choice, Hyperparameter, Interval, Positive
from selftune.lower_level.objective import NetworkObjective
from selftune.networks.inventory import Layer
from selftune.networks.modes import evaluating
from selftune.registries.reference import Reference
from selftune.regularization.layer_noise import LayerNoise
from selftune.regularization.regularizer import register, weight_of
from selftune.regularization.step import Step
from selftune.shapes import Float, Int, Tensor


def nested_dropout(
    features: Float[Tensor, "batch d"],
    uniform: Float[Tensor, ""],
    mean: float | Float[Tensor, ""] = 0.0,
    std: float | Float[Tensor, ""] = 100.0,
) -> Float[Tensor, "batch d"]:
    """Zeroes all features but the first k, with ``P(k) ~ exp(-((k - mean) / std)^2)``, k = 1..d; no rescaling.

    It orders features by importance and limits the capacity left for memorising noise.

    Args:
        uniform: a draw from [0, 1), one for the batch; k grows with it.
        mean, std: of the distribution of k; std is positive (there is no factor 1/2 in the exponent).

    Source: "Compressing Features for Learning with Noisy Labels" (arXiv 2206.13140).

    >>> nested_dropout(torch.ones(1, 4), torch.tensor(0.6), std=float("inf"))
    tensor([[1., 1., 1., 0.]])
    """
    width = features.shape[-1]
    precision = torch.promote_types(features.dtype, torch.float32)  # half precision cannot sum many features
    k = torch.arange(1, width + 1, device=features.device, dtype=precision)
    cumulative = torch.softmax(-(((k - mean) / std) ** 2), dim=0).cumsum(dim=0)
    # feature i (from 0) is kept iff k > i, that is iff P(k <= i) <= uniform; the first always is
    kept = torch.cat([k[:1] > 0, cumulative[:-1] <= uniform])
    return features * kept


@register
class NestedDropout(LayerNoise):
    """Keeps only the first k features before the last layer, k random, one per batch.

    With ``truncate`` the exported network keeps the k features that do best on validation data, the fewest if
    several numbers do.
    """

    name = "nested_dropout"
    family = "supervision"
    reference = Reference("Compressing Features for Learning with Noisy Labels", "2206.13140")
    hyperparameters = (
        Hyperparameter("std", Positive(sweep=(1.0, 200.0)), 100.0, smooth=False, shared=True),
        Hyperparameter("mean", Interval(sweep=(-200.0, 200.0)), 0.0, smooth=False, shared=True),
        Hyperparameter("truncate", Choice((False, True)), False, online=False, smooth=False),
    )
    needs = frozenset({"logits", "labels"})
    order = "noise"  # exported when reparameterised weights are plain again

    def default_layers(self, layers: tuple[str, ...]) -> tuple[str, ...]:
        return layers[-1:]

    def obstacle(self, layer: Layer) -> str:
        if self.settings.get("truncate") and (layer.tied or layer.parametrized):
            return "a tensor behind its weight is used elsewhere too, so that the weight cannot be truncated"
        return super().obstacle(layer)

    def bind(self, objective: NetworkObjective, provided: frozenset[str] | None = None) -> None:
        super().bind(objective, provided)
        self._objective = objective

    def attach(self, network: nn.Module) -> None:
        super().attach(network)
        self._network = network

    def on_input(self, inputs: Tensor, step: Step, values: Mapping[str, Any]) -> Tensor:
        return nested_dropout(inputs, step.rand(1)[0], values["mean"], values["std"])

    @torch.no_grad()
    def export(self, state: dict[str, Tensor]) -> None:
        if not self.bound["truncate"].value:
            return
        for layer in (layer for layers in self.layers.values() for layer in layers):
            weight = state[weight_of(layer)]
            kept = torch.arange(weight.shape[1], device=weight.device) < self._best(layer)
            state[weight_of(layer)] = weight * kept

    def _best(self, layer: str) -> Int[Tensor, ""]:
        """The number of features with which the network is most accurate on validation data."""
        module: Any = self._network.get_submodule(layer)
        seen: list[Tensor] = []
        hook = module.register_forward_pre_hook(lambda module, arguments: seen.append(arguments[0]))
        device = module.weight.device
        objective = self._objective
        batch = moved(objective.splits()["validation"], device)
        with evaluating(self._network):
            objective.run(self._network, objective.inputs(batch), batch)
        hook.remove()
        features, weight = seen[0], module.weight
        logits = features.new_zeros(len(features), len(weight))
        logits = logits if module.bias is None else logits + module.bias
        hits = []
        for k in range(weight.shape[1]):
            logits = logits + features[:, k, None] * weight[:, k]
            hits.append((logits.argmax(dim=1) == objective.labels(batch)).sum())
        return torch.stack(hits).cpu().argmax() + 1  # the first of equals
