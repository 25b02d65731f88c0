"""Fishr: equal variances of the examples' gradients across domains."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from selftune.objectives.common.annealing import Annealed, anneal_steps
from selftune.objectives.mathematics.domains import averaging_matrix

from selftune.errors import SettingError
from selftune.hyperparameters import Hyperparameter, Interval, Positive
from selftune.lower_level.objective import NetworkObjective
from selftune.registries.reference import Reference
from selftune.regularization.regularizer import register
from selftune.regularization.step import Step
from selftune.shapes import Float, Int, Tensor


def fishr(
    gradients: Float[Tensor, "batch parameters"],
    domains: Int[Tensor, "batch"],
    previous: Float[Tensor, "domains parameters"] | None = None,
    decay: float | Float[Tensor, ""] = 0.95,
) -> Float[Tensor, ""]:
    """Variance across domains of the per-domain gradient variances, averaged over parameters.

    Args:
        gradients: of every example's loss, with their graph.
        previous: running averages of the domains' variances, in ascending order of the domains; mixed in by
            ``decay`` and rescaled so that averages of zero change nothing. They get no gradient.
        decay: in [0, 1).

    Raises:
        ValueError: if ``previous`` does not have one row for every domain of the batch.

    Source: "Fishr: Invariant Gradient Variances for Out-of-Distribution Generalization" (arXiv 2109.02934),
    with the running averages of its code.

    >>> fishr(torch.tensor([[1.0], [-1.0], [3.0], [-3.0]]), torch.tensor([0, 0, 1, 1]))
    tensor(16.)
    """
    averaging = averaging_matrix(domains, gradients)
    variances = _domain_variances(gradients, averaging)
    if previous is not None:
        if len(previous) != len(variances):
            raise ValueError(f"the batch holds {len(variances)} domains, but previous has {len(previous)} rows")
        variances = variances + decay / (1 - decay) * previous.detach()
    return _spread(variances, averaging.new_ones(len(variances)))


def _domain_variances(
    gradients: Float[Tensor, "batch parameters"], averaging: Float[Tensor, "domains batch"]
) -> Float[Tensor, "domains parameters"]:
    """Elementwise variances of every domain's gradients, divided by their number."""
    means = averaging @ gradients
    own = averaging.argmax(dim=0)
    return averaging @ (gradients - means[own]).square()


def _spread(
    variances: Float[Tensor, "domains parameters"], present: Float[Tensor, "domains"]
) -> Float[Tensor, ""]:
    """Variance over the domains that are present, averaged over parameters."""
    weights = present / present.sum()
    return (weights @ (variances - weights @ variances).square()).mean()


@register
class Fishr(Annealed):
    """Variance across domains of the variances of examples' gradients in the last layer, with running averages.

    In the first ``anneal`` steps only the averages are kept; then the optimizer is reset. By default these are
    1500, at most three tenths of the run, and none where the strength is tuned. Domains that a batch lacks do not
    count in its step. DomainBed takes a strength of 1000 with Adam; SGD with momentum wants less.
    """

    name = "fishr"
    family = "adaptation"
    kind = "penalty"
    reference = Reference(
        "Fishr: Invariant Gradient Variances for Out-of-Distribution Generalization", "2109.02934"
    )
    hyperparameters = (
        Hyperparameter("strength", Positive(sweep=(10.0, 1e4)), 100.0),
        Hyperparameter("decay", Interval(0.0, 0.999, sweep=(0.9, 0.99)), 0.95, smooth=False, shared=True),
        anneal_steps(1500),
    )
    before = 0.0
    longest = 0.3
    needs = frozenset({"example_gradients", "domains"})
    risk = "domains"

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self._averages: Tensor | None = None

    def bind(self, objective: NetworkObjective, provided: frozenset[str] | None = None) -> None:
        super().bind(objective, provided)
        train = objective.splits().get("train")
        if train is None or "domains" not in train:
            raise SettingError("", "fishr needs the domains of all training data in memory; give tensors")
        self._domains = torch.unique(train["domains"])

    def penalty(self, step: Step) -> Float[Tensor, "*batch"]:
        gradients, decay = step.example_gradients, self.value(step, "decay")
        self._domains = self._domains.to(step.domains.device)
        members = (self._domains[:, None] == step.domains).to(gradients)
        counts = members.sum(dim=1, keepdim=True)
        variances = _domain_variances(gradients, members / counts.clamp_min(1))
        if self._averages is None:
            self._averages = torch.zeros_like(variances).detach()
        averages = self._averages.to(gradients.device)
        if not step.perturbed:
            moved = decay * averages + (1 - decay) * variances.detach()
            self._averages = torch.where(counts > 0, moved, averages)
        value = _spread(variances + decay / (1 - decay) * averages, (counts[:, 0] > 0).to(gradients))
        return self.weighed(step, value)

    def state_dict(self) -> dict[str, Any]:
        return {"averages": self._averages}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._averages = state["averages"]
