"""Dynamic sparse training: a fixed number of active weights moves to where it is most useful."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from selftune.objectives.common.counts import Count

from selftune.hyperparameters import Choice, Hyperparameter, Unit
from selftune.registries.reference import Reference
from selftune.regularization.regularizer import Regularizer, register
from selftune.regularization.step import Step
from selftune.shapes import Bool, Float, Int, Tensor


def dynamic_sparse_training(
    weight: Float[Tensor, "*shape"],
    mask: Bool[Tensor, "*shape"],
    growth_scores: Float[Tensor, "*shape"],
    *,
    drop_fraction: float | Float[Tensor, ""],
) -> Bool[Tensor, "*shape"]:
    """New mask of active weights: the smallest active ones are dropped, and as many of the highest score grown.

    floor(drop_fraction * active) weights are dropped; the just dropped compete for growth too. Of equal weights or
    scores the smaller flat index stays or grows.

    Args:
        mask: True where a weight is active.
        growth_scores: magnitude of the dense gradient, of its running average, or random draws.
        drop_fraction: in [0, 1].

    Source: "Rigging the Lottery: Making All Tickets Winners" (arXiv 1911.11134, Algorithm 1); compared in
    "Continual Learning with Dynamic Sparse Training: Exploring Algorithms for Effective Model Updates"
    (arXiv 2308.14831).

    >>> weight, mask = torch.tensor([0.1, -3.0, 0.0, 0.0]), torch.tensor([True, True, False, False])
    >>> dynamic_sparse_training(weight, mask, torch.tensor([0.0, 9.0, 1.0, 2.0]), drop_fraction=0.5)
    tensor([False,  True, False,  True])
    """
    active = mask.sum()
    # Double precision: in single, the product is no exact count beyond sixteen million weights.
    dropped = torch.floor(torch.as_tensor(drop_fraction, dtype=torch.float64, device=mask.device) * active)
    kept = _largest(weight.detach().abs(), mask, active - dropped)
    return kept | _largest(growth_scores.detach(), ~kept, dropped)


def _largest(
    scores: Float[Tensor, "*shape"], eligible: Bool[Tensor, "*shape"], count: Int[Tensor, ""] | Float[Tensor, ""]
) -> Bool[Tensor, "*shape"]:
    """Mask of the ``count`` eligible entries with the largest scores."""
    order = scores.flatten().sort(descending=True, stable=True).indices
    candidates = eligible.flatten()[order]
    chosen = torch.empty_like(candidates)
    chosen[order] = candidates & (candidates.cumsum(0) <= count)
    return chosen.view(eligible.shape)


_MOMENTUM = 0.9  # of the running average of the gradient


@register
class DynamicSparseTraining(Regularizer):
    """Moves the active weights of a sparse network: every so often the smallest are dropped, and others grown.

    In every ``every``-th step the share ``drop_fraction`` of the active weights of every layer is dropped, less
    and less until the share ``stop`` of the run, and as many weights grow, from zero and without moments.
    ``growth`` says which: those with the largest dense ``gradient`` or running average of it (``momentum``),
    ``random`` ones, or ``unfired`` ones, which were never active before. ``erdos_renyi_sparsity`` draws the first
    active weights.
    """

    name = "dynamic_sparse_training"
    family = "structure"
    kind = "proximal"
    reference = Reference(
        "Continual Learning with Dynamic Sparse Training: Exploring Algorithms for Effective Model Updates",
        "2308.14831",
    )
    hyperparameters = (
        Hyperparameter("drop_fraction", Unit(sweep=(0.1, 0.5)), 0.3, smooth=False, shared=True),
        Hyperparameter(
            "every", Count(1, 1_000_000, sweep=(20, 500)), 100, online=False, smooth=False, shared=True
        ),
        Hyperparameter(
            "growth", Choice(("gradient", "momentum", "random", "unfired")), "gradient", online=False, smooth=False
        ),
        Hyperparameter("stop", Unit(sweep=(0.5, 1.0)), 0.75, online=False, smooth=False, shared=True),
    )
    needs = frozenset({"parameters", "gradients", "masks", "progress"})
    per_layer = True
    sparse = True
    order = "projection"  # sees gradients before those of inactive weights are taken away

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self._scores: dict[str, Tensor] = {}
        self._averages: dict[str, Tensor] = {}
        self._fired: dict[str, Tensor] = {}

    def gradients(self, step: Step, gradients: dict[str, Tensor]) -> None:
        growth = self.value(step, "growth")
        names = [n for n in self._fractions(step) if n in gradients and n in step.masks]
        if growth == "momentum":
            for name in names:
                average = self._averages.get(name, gradients[name].new_zeros(())).to(gradients[name].device)
                self._averages[name] = _MOMENTUM * average + (1 - _MOMENTUM) * gradients[name]
        every = self.value(step, "every")
        due = step.number > 0 and step.number % every == 0 and step.progress < self.bound["stop"].value
        self._scores = {name: self._score(name, growth, gradients[name], step) for name in names} if due else {}

    def _score(self, name: str, growth: str, gradient: Tensor, step: Step) -> Tensor:
        if growth == "gradient":
            return gradient.abs()
        if growth == "momentum":
            return self._averages[name].abs()
        uniform = step.rand(*gradient.shape)
        if growth == "random":
            return uniform
        fired: Tensor = self._fired.get(name, step.masks[name]).to(gradient.device)
        self._fired[name] = fired
        return uniform + (~fired).to(uniform.dtype)

    def parameters(self, step: Step) -> None:
        fractions, grown = self._fractions(step), {}
        for name, scores in self._scores.items():
            weight, mask = step.parameters[name], step.masks[name].to(scores.device)
            weight.mul_(mask)  # what the optimizer's moments moved there is no start for a grown weight
            new = dynamic_sparse_training(weight, mask, scores, drop_fraction=fractions[name])
            step.masks[name] = new
            grown[name] = new & ~mask
            if name in self._fired:
                self._fired[name] = self._fired[name] | new
        if grown:
            step.asks.forget_moments(step, grown)

    def _fractions(self, step: Step) -> dict[str, Tensor]:
        """The share of the active weights that is dropped now, by the names of the weights."""
        stop = self.bound["stop"].value
        factor = 0.5 * (1 + math.cos(math.pi * min(1.0, step.progress / stop))) if stop else 0.0
        by_part = self.value_by_part(step, "drop_fraction")
        return {
            weight: factor * by_part[label]
            for label, layers in self.layers.items()
            for layer in layers
            for weight in self.weight_names(layer)
        }

    def map_parameter(self, parameter: Tensor, step: Step, values: Mapping[str, Any]) -> Tensor:
        """Only response steps see dropping as a map of the weights; it happens once in ``every`` steps."""
        if not step.perturbed:
            return parameter
        active = parameter != 0
        count = active.sum()
        kept = _largest(parameter.abs(), active, count - torch.floor(values["drop_fraction"] * count))
        return torch.where(kept, parameter, (1 - 1 / values["every"]) * parameter)

    def state_dict(self) -> dict[str, Any]:
        return {"averages": self._averages, "fired": self._fired}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._averages, self._fired = dict(state["averages"]), dict(state["fired"])
