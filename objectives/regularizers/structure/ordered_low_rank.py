"""A factorised layer whose components are ordered by importance, cut to its first ones."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from selftune.objectives.regularizers.structure.hierarchical_group_lasso import _tail_norms
from torch import nn

from selftune.hyperparameters import Choice, Hyperparameter, Positive
from selftune.registries.reference import Reference
from selftune.regularization.regularizer import register
from selftune.regularization.reparameterization import Reparameterization
from selftune.regularization.step import Step
from selftune.shapes import Bool, Float, Tensor


def ordered_low_rank(
    inputs: Float[Tensor, "batch in"], up: Float[Tensor, "out rank"], down: Float[Tensor, "rank in"], *, keep: int
) -> Float[Tensor, "batch out"]:
    """Output of the layer (without bias) with its first ``keep`` components: ``sum_k up[:, k] (down[k] . x)``.

    Args:
        keep: from 0 to the rank.

    Raises:
        ValueError: if ``keep`` is out of range.

    Source: "Maestro: Uncovering Low-Rank Structures via Trainable Decomposition" (arXiv 2308.14929, section 3).

    >>> import torch
    >>> up, down = torch.tensor([[1.0, 1.0]]), torch.tensor([[2.0, 0.0], [0.0, 3.0]])
    >>> [ordered_low_rank(torch.ones(1, 2), up, down, keep=k).item() for k in (0, 1, 2)]
    [0.0, 2.0, 5.0]
    """
    if not 0 <= keep <= len(down):
        raise ValueError(f"ordered_low_rank needs keep from 0 to {len(down)}, the rank, got {keep}.")
    return inputs @ down[:keep].T @ up[:, :keep].T


@register
class OrderedLowRank(Reparameterization):
    """Maestro: trains every layer as a product of two factors whose components become ordered by importance.

    Every step adds a second pass in which layers are cut to their first components, and whose targets are the
    predictions of the full network. ``sampler: single`` cuts one layer, drawn with its width from all layers and
    widths; ``independent`` cuts all. After every epoch components of an importance below ``threshold`` are set to
    zero for good, and widths are drawn up to the number of those that are left. ``hierarchical_group_lasso`` is
    the penalty that belongs to it. On export the factors are multiplied. ``parts`` says which layers are
    factorised; by default all but the last one.
    """

    name = "ordered_low_rank"
    family = "structure"
    reference = Reference("Maestro: Uncovering Low-Rank Structures via Trainable Decomposition", "2308.14929")
    hyperparameters = (
        Hyperparameter("threshold", Positive(sweep=(1e-8, 1e-1)), 1e-5, online=False, smooth=False, shared=True),
        Hyperparameter("sampler", Choice(("single", "independent")), "single", online=False, smooth=False),
    )
    needs = frozenset({"parameters", "probs", "epoch"})
    provides = frozenset({"factors"})
    freezes = True
    whole_network = "it measures its factors in the network before every epoch"

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self._kept: dict[str, Tensor] = {}
        self._ranks: dict[str, Tensor] = {}
        self._widths: dict[str, Tensor] = {}
        self._epoch = 0

    def default_layers(self, layers: tuple[str, ...]) -> tuple[str, ...]:
        return layers[:-1] or layers

    def tensors(self, weight: Tensor, values: Mapping[str, Any]) -> dict[str, Tensor]:
        left, singular_values, right = torch.linalg.svd(weight.flatten(1), full_matrices=False)
        roots = singular_values.sqrt()
        return {"up": left * roots, "down": roots[:, None] * right}

    def attach(self, network: nn.Module) -> None:
        super().attach(network)
        for layers in self.layers.values():
            for layer in layers:
                module: Any = network.get_submodule(layer)
                factors = module.parametrizations["weight"][0]
                factors.layer = layer
                self._keep(layer, torch.ones_like(factors.down[:, 0], dtype=torch.bool))

    def _keep(self, layer: str, kept: Bool[Tensor, "rank"]) -> None:
        """Notes which components of a layer are left; they are its first ones."""
        self._kept[layer], self._ranks[layer] = kept, kept.sum()

    def weight(self, original: Tensor, values: Mapping[str, Any], extra: Any, step: Step | None) -> Tensor:
        up = extra.up
        if self._widths:  # a mask: slices of a drawn width would wait for the device
            up = up * (torch.arange(len(extra.down), device=up.device) < self._widths[extra.layer])
        product: Tensor = up @ extra.down
        return product.view(original.shape)

    def penalty(self, step: Step) -> Float[Tensor, "batch"]:
        self._widths = self._draw(step)
        try:
            cut = step.asks.pass_through(step, step.inputs).logits
        finally:
            self._widths = {}
        return F.cross_entropy(cut, step.probs.detach(), reduction="none")

    def _draw(self, step: Step) -> dict[str, Tensor]:
        """How many components every layer keeps in the second pass."""
        if self.bound["sampler"].value == "independent":
            return {layer: (step.rand() * rank).floor() + 1 for layer, rank in self._ranks.items()}
        place = (step.rand() * torch.stack(list(self._ranks.values())).sum()).floor() + 1
        widths = {}
        for layer, rank in self._ranks.items():
            widths[layer] = torch.where((place > 0) & (place <= rank), place, rank)
            place = place - rank
        return widths

    def quantity(self, name: str, step: Step) -> list[tuple[Tensor, ...]]:
        return [tuple(step.parameters[key] for key in _names(layer)) for layer in self._ranks]

    @torch.no_grad()
    def batch(self, step: Step) -> None:
        """At the start of every epoch but the first layers shrink."""
        if step.perturbed or step.epoch == self._epoch:
            return
        self._epoch = step.epoch
        for layer, up, down in self._factors():
            importance = _tail_norms(up, down).prod(dim=0)
            self._keep(layer, self._kept[layer] & (importance >= self.bound["threshold"].value))
        self._cut()

    def parameters(self, step: Step) -> None:
        if self._epoch:
            self._cut()  # what the optimizer's moments moved comes back to zero

    def _cut(self) -> None:
        for layer, up, down in self._factors():
            up.mul_(self._kept[layer])
            down.mul_(self._kept[layer][:, None])

    def _factors(self) -> Iterator[tuple[str, Tensor, Tensor]]:
        assert self._network is not None
        for layer in self._kept:
            module: Any = self._network.get_submodule(layer)
            factors = module.parametrizations["weight"][0]
            yield layer, factors.up, factors.down

    def state_dict(self) -> dict[str, Any]:
        return {**super().state_dict(), "epoch": self._epoch, "kept": self._kept}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        super().load_state_dict(state)
        self._epoch = state["epoch"]
        for layer, kept in state["kept"].items():
            self._keep(layer, kept.to(self._kept[layer].device))


def _names(layer: str) -> tuple[str, str, str]:
    """Names of the two factors of a layer and of the weight they came from."""
    prefix = f"{layer}.parametrizations.weight" if layer else "parametrizations.weight"
    return f"{prefix}.0.up", f"{prefix}.0.down", f"{prefix}.original"
