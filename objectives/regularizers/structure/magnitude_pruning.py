"""Magnitude pruning: the smallest weights are removed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from selftune.objectives.common.counts import Count

from selftune.errors import SettingError
from selftune.hyperparameters import Choice, Hyperparameter, Unit
from selftune.lower_level.objective import NetworkObjective
from selftune.networks.inventory import Layer
from selftune.registries.reference import Reference
from selftune.regularization.regularizer import Regularizer, register
from selftune.regularization.step import Step
from selftune.shapes import Bool, Float, Tensor


def magnitude_pruning(
    weight: Float[Tensor, "*shape"], *, sparsity: float | Float[Tensor, ""]
) -> Bool[Tensor, "*shape"]:
    """Mask of the weights to keep (True): all but the floor(sparsity * size) smallest in magnitude.

    Of equal magnitudes the one with the smaller flat index goes first. For several tensors at once, pass
    their concatenation.

    Args:
        sparsity: in [0, 1].

    Source: "Learning both Weights and Connections for Efficient Neural Networks" (arXiv 1506.02626).

    >>> magnitude_pruning(torch.tensor([3.0, -1.0, 1.0, -2.0]), sparsity=0.5)
    tensor([ True, False, False,  True])
    """
    size = weight.numel()
    # Double precision: in single, the product is no exact count beyond sixteen million weights.
    removed = torch.floor(torch.as_tensor(sparsity, dtype=torch.float64, device=weight.device) * size)
    order = weight.detach().abs().flatten().sort(stable=True).indices
    keep = torch.empty(size, dtype=torch.bool, device=weight.device)
    keep[order] = torch.arange(size, device=weight.device) >= removed
    return keep.view(weight.shape)


@register
class MagnitudePruning(Regularizer):
    """Sets the smallest weights to zero in every ``every``-th training step, and keeps them there in between.

    ``scope: global`` ranks the weights of all layers together, ``layer`` those of every layer by themselves. With
    an ``end`` above zero sparsity grows from ``initial`` to ``sparsity`` between the shares ``begin`` and ``end``
    of the training steps, fast at first, as one minus a cube ("To prune, or not to prune", arXiv 1710.01878).
    """

    name = "magnitude_pruning"
    family = "structure"
    kind = "proximal"
    reference = Reference("Learning both Weights and Connections for Efficient Neural Networks", "1506.02626")
    hyperparameters = (
        Hyperparameter("sparsity", Unit(sweep=(0.2, 0.98)), 0.8, smooth=False, shared=True),
        Hyperparameter("scope", Choice(("global", "layer")), "global", online=False, smooth=False),
        Hyperparameter(
            "every", Count(1, 1_000_000, sweep=(20, 500)), 100, online=False, smooth=False, shared=True
        ),
        Hyperparameter("initial", Unit(), 0.0, online=False, smooth=False, shared=True, swept=False),
        Hyperparameter("begin", Unit(), 0.0, online=False, smooth=False, shared=True, swept=False),
        Hyperparameter("end", Unit(), 0.0, online=False, smooth=False, shared=True, swept=False),
    )
    needs = frozenset({"parameters", "gradients"})
    per_layer = True
    sparse = True

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self._kept: dict[str, Tensor] = {}

    def _resolve_parts(self, layers: tuple[Layer, ...]) -> dict[str, tuple[str, ...]]:
        if self.parts is not None and self.settings.get("scope", "global") == "global":
            raise SettingError("parts", "weights ranked together have one sparsity; set scope to layer")
        return super()._resolve_parts(layers)

    def bind(self, objective: NetworkObjective, provided: frozenset[str] | None = None) -> None:
        super().bind(objective, provided)
        _, begin, end = self._schedule()
        if end and not begin < end:
            raise SettingError("end", f"must lie above begin = {begin:g}, got {end:g}")
        if end and provided is not None and "progress" not in provided:
            raise SettingError("end", "is a share of the training steps, which only a budget in steps knows")

    def _schedule(self) -> tuple[float, float, float]:
        """(initial, begin, end), one schedule for all parts."""
        values = (self.bound[name].value for name in ("initial", "begin", "end"))
        initial, begin, end = (value[0] if isinstance(value, tuple) else value for value in values)
        return initial, begin, end

    def _grown(self, step: Step, sparsity: Float[Tensor, ""]) -> Float[Tensor, ""]:
        """The sparsity of a training step."""
        initial, begin, end = self._schedule()
        if not end:
            return sparsity
        left = 1 - min(max((step.progress - begin) / (end - begin), 0.0), 1.0)
        grown: Tensor = sparsity + (initial - sparsity) * left**3
        return grown

    def gradients(self, step: Step, gradients: dict[str, Tensor]) -> None:
        """Between prunings a weight that is zero stays zero, whatever the optimizer's moments say."""
        self._kept = {}
        if step.number % self.value(step, "every") == 0:
            return
        for name in self._names():
            self._kept[name] = step.parameters[name] != 0
            if name in gradients:
                gradients[name].mul_(self._kept[name])

    def _names(self) -> list[str]:
        """Of all weights that are pruned."""
        layers = (layer for layers in self.layers.values() for layer in layers)
        return [name for layer in layers for name in self.weight_names(layer)]

    def parameters(self, step: Step) -> None:
        for name, kept in self._kept.items():
            step.parameters[name].mul_(kept)

    def map_parameter(self, parameter: Tensor, step: Step, values: Mapping[str, Any]) -> Tensor:
        if not step.perturbed and step.number % values["every"]:
            return parameter
        sparsity = self._grown(step, values["sparsity"])
        if values["scope"] == "layer":
            return parameter * magnitude_pruning(parameter, sparsity=sparsity)
        return parameter * (parameter.abs() > self._threshold(step, sparsity))

    def _threshold(self, step: Step, sparsity: Float[Tensor, ""]) -> Float[Tensor, ""]:
        """The largest magnitude that is pruned, of all layers together; computed once per step."""
        if "_pruning_threshold" not in step.__dict__:
            together = torch.cat([step.parameters[name].detach().abs().flatten() for name in self._names()])
            pruned = together.masked_fill(magnitude_pruning(together, sparsity=sparsity), -1)
            step.know(_pruning_threshold=pruned.amax())
        threshold: Tensor = step._pruning_threshold
        return threshold
