"""Densities of sparse layers by the Erdos-Renyi rule: the smaller the layer, the denser."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn

from selftune.hyperparameters import Choice, Hyperparameter, Interval
from selftune.lower_level.objective import NetworkObjective
from selftune.registries.reference import Reference
from selftune.regularization.quantity import Quantity, quantities
from selftune.regularization.regularizer import Regularizer, register, reparameterized_weights
from selftune.regularization.step import Step
from selftune.shapes import Float, Tensor

quantities.declare(
    Quantity(
        "masks",
        None,
        "parameters",
        "Boolean tensors by parameter name, True where a weight of a sparse network is active",
    ),
)


def erdos_renyi_sparsity(
    shapes: Sequence[Sequence[int]], *, density: float | Float[Tensor, ""], kernel: bool = True
) -> Float[Tensor, "layers"]:
    """Share of active weights of every layer, in (0, 1], so that ``density`` of all weights are active.

    A layer's density is proportional to the sum of its axes over their product (``kernel``), or to that of its
    first two axes only; layers that would exceed one are dense, and the others share what is left.

    Args:
        shapes: of the layers' weights, output axis first.
        density: in (0, 1].

    Returns:
        Densities in double precision: counts of weights come from them.

    Source: "Rigging the Lottery: Making All Tickets Winners" (arXiv 1911.11134, section 3); compared in "Continual
    Learning with Dynamic Sparse Training: Exploring Algorithms for Effective Model Updates" (arXiv 2308.14831).

    >>> erdos_renyi_sparsity(((2, 4), (8, 8)), density=0.5)
    tensor([1.0000, 0.4375], dtype=torch.float64)
    """
    density = torch.as_tensor(density, dtype=torch.float64)
    device = density.device
    kernels = [tuple(shape) if kernel else tuple(shape)[:2] for shape in shapes]
    raw = torch.tensor([sum(axes) / math.prod(axes) for axes in kernels], dtype=torch.float64, device=device)
    sizes = torch.tensor([math.prod(shape) for shape in shapes], dtype=torch.float64, device=device)

    # Sorted by raw density, the dense layers come first: as few as it takes for the next one to fit.
    order = raw.sort(descending=True, stable=True).indices
    raw_sorted, weighted = raw[order], (raw * sizes)[order]
    budget = density * sizes.sum() - (sizes[order].cumsum(0) - sizes[order])
    scales = budget / weighted.flip(0).cumsum(0).flip(0)
    fits = scales * raw_sorted <= 1
    fits[-1] = True  # true up to rounding, as the density is at most one
    dense = fits.to(torch.int64).argmax(dim=0, keepdim=True)
    # A dense layer has at least the raw density of the one that decides the scale, hence is clamped.
    return (scales[dense] * raw).clamp(max=1)


_REPARAMETERIZATIONS = (
    "low_rank_adaptation",
    "low_rank_factorization",
    "ordered_low_rank",
    "quantization_noise",
    "weight_compander",
)


@register
class ErdosRenyiSparsity(Regularizer):
    """Trains a random part of the weights only, the others are zero: denser in smaller layers.

    ``density`` is the active share of all weights of the layers; ``allocation`` says how layers share it: ``erk``
    by all axes of a weight, ``er`` by its first two, ``uniform`` all alike. Which weights are active is drawn
    once; ``dynamic_sparse_training`` moves them.
    """

    name = "erdos_renyi_sparsity"
    family = "structure"
    kind = "reparam"
    reference = Reference("Rigging the Lottery: Making All Tickets Winners", "1911.11134")
    hyperparameters = (
        Hyperparameter(
            "density", Interval(1e-3, 1.0, sweep=(0.02, 1.0)), 0.2, online=False, smooth=False, shared=True
        ),
        Hyperparameter("allocation", Choice(("erk", "er", "uniform")), "erk", online=False, smooth=False),
    )
    needs = frozenset({"parameters", "gradients"})
    sparse = True
    provides = frozenset({"masks"})
    incompatible = dict.fromkeys(_REPARAMETERIZATIONS, "it replaces the weights that would be sparse")
    order = "clipping"  # after whoever looks at the gradients of weights that are not active

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self._masks: dict[str, Tensor] = {}
        self._names: list[str] = []

    def bind(self, objective: NetworkObjective, provided: frozenset[str] | None = None) -> None:
        super().bind(objective, provided)
        inventory = objective.inventory()
        held = (
            name for layer in inventory.layers if layer.weight and not layer.length_apart for name in layer.weights
        )
        self._names = [name for name in dict.fromkeys(held) if name not in inventory.frozen]

    def attach(self, network: nn.Module) -> None:
        tensors = dict(network.named_parameters())
        elsewhere = reparameterized_weights(network)
        weights = {name: tensors[name] for name in (elsewhere.get(name, name) for name in self._names)}
        for (name, weight), density in zip(weights.items(), self._densities(weights), strict=True):
            active = round(density * weight.numel())
            # From the generator that seeds the network.
            order = torch.randperm(weight.numel()).to(weight.device)
            self._masks[name] = (order < active).view(weight.shape)
        self._apply(weights)

    def _densities(self, weights: Mapping[str, Tensor]) -> list[float]:
        density, allocation = self.bound["density"].value, self.bound["allocation"].value
        if allocation == "uniform":
            return [density] * len(weights)
        shapes = [tuple(weight.shape) for weight in weights.values()]
        densities: list[float] = erdos_renyi_sparsity(shapes, density=density, kernel=allocation == "erk").tolist()
        return densities

    @torch.no_grad()
    def _apply(self, tensors: Mapping[str, Tensor]) -> None:
        for name, mask in self._masks.items():
            if name in tensors:
                tensors[name].mul_(mask)

    def quantity(self, name: str, step: Step) -> dict[str, Tensor]:
        return self._masks

    def gradients(self, step: Step, gradients: dict[str, Tensor]) -> None:
        self._apply(gradients)

    def parameters(self, step: Step) -> None:
        self._apply(step.parameters)

    def state_dict(self) -> dict[str, Any]:
        return {"masks": self._masks}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._masks = {name: mask.to(self._masks[name].device) for name, mask in state["masks"].items()}
