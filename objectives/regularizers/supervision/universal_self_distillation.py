"""Universal self-knowledge distillation: customised soft labels without a teacher."""

from __future__ import annotations

from typing import Any

from selftune.objectives.common.heads import Head
from selftune.objectives.regularizers.supervision.normalized_distillation import _of_target, _without_target
from torch import nn

from selftune.hyperparameters import Hyperparameter, Positive
from selftune.lower_level.objective import NetworkObjective
from selftune.registries.reference import Reference
from selftune.regularization.regularizer import Regularizer, register
from selftune.regularization.step import Step
from selftune.shapes import Float, Int, Tensor

EPS = 1e-6
WEAK_SMOOTHING = 0.1


def universal_self_distillation(
    logits: Float[Tensor, "batch classes"],
    weak_logits: Float[Tensor, "batch classes"],
    labels: Int[Tensor, "batch"],
    alpha: float | Float[Tensor, "*alpha"] = 1.0,
    beta: float | Float[Tensor, "*beta"] = 0.1,
    mu: float | Float[Tensor, "*mu"] = 0.005,
) -> Float[Tensor, "batch"]:
    """Soft target labels from squared confidence, soft non-target labels from Zipf's law over ranks.

    The target class is weighted by its squared probability, shifted to a mean of 1 over the batch. The other
    classes are ranked by the network and a weak head together; rank k gets a label in proportion to 1/k. The
    weak head itself learns the smoothed labels; the other two parts send it no gradient.

    Args:
        weak_logits: of a linear head on features of a middle layer.
        alpha, beta, mu: weights of the target, the non-target and the weak part, at least 0.

    Source: "From Knowledge Distillation to Self-Knowledge Distillation: A Unified Approach with Normalized Loss
    and Customized Soft Labels" (arXiv 2303.13005).

    >>> import torch
    >>> universal_self_distillation(torch.zeros(1, 3), torch.zeros(1, 3), torch.tensor([0]), beta=0.0, mu=0.0)
    tensor([1.0986])
    """
    log_probs, weak_log_probs = logits.log_softmax(dim=-1), weak_logits.log_softmax(dim=-1)
    log_confidence = _of_target(log_probs, labels)
    squared = (2 * log_confidence.detach()).exp()
    target = -(squared + 1 - squared.mean()) * log_confidence

    score = _shares_of_others(log_probs, labels) + _shares_of_others(weak_log_probs, labels)
    rank = score.argsort(dim=-1, descending=True, stable=True).argsort(dim=-1)
    zipf = 1 / (rank.to(logits.dtype) + 1)
    zipf = zipf / zipf.sum(dim=-1, keepdim=True)
    others = -(zipf * _without_target(logits, labels).log_softmax(dim=-1)).sum(dim=-1)

    correct = _of_target(weak_log_probs, labels)
    weak = -(1 - WEAK_SMOOTHING) * correct - WEAK_SMOOTHING * weak_log_probs.mean(dim=-1)
    return alpha * target + beta * others + mu * weak


def _shares_of_others(
    log_probs: Float[Tensor, "batch classes"], labels: Int[Tensor, "batch"]
) -> Float[Tensor, "batch others"]:
    """Probabilities of the other classes as shares of what the target class leaves."""
    probs = log_probs.detach().exp()
    return _without_target(probs, labels) / (1 - _of_target(probs, labels)[:, None] + EPS)


@register
class UniversalSelfDistillation(Regularizer):
    """Self-distillation without a teacher: soft labels from confidence and from ranks of two heads.

    The weak head is a linear map of the middle layer's outputs, averaged over space; it trains with the network
    and is not exported.
    """

    name = "universal_self_distillation"
    family = "supervision"
    kind = "penalty"
    reference = Reference(
        "From Knowledge Distillation to Self-Knowledge Distillation: A Unified Approach with Normalized Loss and"
        " Customized Soft Labels",
        "2303.13005",
    )
    hyperparameters = (
        Hyperparameter("alpha", Positive(sweep=(0.1, 2.0)), 1.0),
        Hyperparameter("beta", Positive(sweep=(0.01, 1.0)), 0.1),
        Hyperparameter("mu", Positive(sweep=(5e-4, 0.05)), 0.005),
    )
    needs = frozenset({"logits", "labels", "layer_features", "parameters", "probs"})

    def bind(self, objective: NetworkObjective, provided: frozenset[str] | None = None) -> None:
        super().bind(objective, provided)
        self._names = [layer.name for layer in objective.inventory().running]
        self._middle = (len(self._names) - 1) // 2
        self._head = Head(self.name)

    def attach(self, network: nn.Module) -> None:
        modules: tuple[Any, ...] = tuple(network.get_submodule(self._names[at]) for at in (self._middle, -1))
        middle, last = modules
        self._head.add(network, len(middle.weight), len(last.weight))

    def penalty(self, step: Step) -> Float[Tensor, "batch"]:
        seen = step.layer_features[self._middle]
        pooled = seen.flatten(2).mean(dim=2) if seen.ndim > 2 else seen
        weights = (self.value(step, name) for name in ("alpha", "beta", "mu"))
        return universal_self_distillation(step.logits, self._head(step, pooled), step.labels, *weights)

    def export(self, state: dict[str, Tensor]) -> None:
        self._head.remove(state)
