"""Invariant risk minimisation: one scale of the logits optimal in every domain."""

from __future__ import annotations

import torch
from selftune.objectives.common.annealing import Annealed, anneal_steps

from selftune.data.domains import balanced_weights, same_domain
from selftune.hyperparameters import Choice, Hyperparameter, Positive
from selftune.registries.reference import Reference
from selftune.regularization.regularizer import register
from selftune.regularization.step import Step
from selftune.shapes import Float, Int, Tensor


def invariant_risk_minimization(
    logits: Float[Tensor, "batch classes"],
    targets: Int[Tensor, "batch"],
    domains: Int[Tensor, "batch"],
    unbiased: bool = True,
) -> Float[Tensor, ""]:
    """Squared derivative of a domain's cross-entropy in a scale of the logits at 1, averaged over domains.

    Args:
        unbiased: multiplies the derivatives of the domain's even and odd examples (by position, from 0) in place
            of the square; the result may be negative, and a domain with a single example counts as zero.

    Source: "Invariant Risk Minimization" (arXiv 1907.02893), its IRMv1.

    >>> logits, targets = torch.tensor([[1.0, -1.0], [1.0, -1.0]]), torch.tensor([0, 0])
    >>> invariant_risk_minimization(logits, targets, torch.tensor([0, 0]))
    tensor(0.0568)
    """
    chosen = logits.gather(1, targets[:, None])[:, 0]
    slopes = (torch.softmax(logits, dim=1) * logits).sum(dim=1) - chosen
    same = same_domain(domains)
    weights = balanced_weights(same, logits)
    if not unbiased:
        return weights @ _means(slopes, same).square()
    odd = same.tril(-1).sum(dim=1) % 2 == 1
    return weights @ (_means(slopes, same & ~odd) * _means(slopes, same & odd))


def _means(values: Tensor, members: Tensor) -> Tensor:
    """Row by row the mean of the values of the members, zero where there are none."""
    members = members.to(values)
    return members @ values / members.sum(dim=1).clamp_min(1)


@register
class InvariantRiskMinimization(Annealed):
    """Asks for logits whose scale is optimal in every domain; in the first ``anneal`` steps with strength 1.

    Then the optimizer is reset. By default these are 500 steps, at most a tenth of the run, and none where the
    strength is tuned. DomainBed takes a
    strength of 100 with Adam and small learning rates; with SGD and momentum as much makes training diverge.
    """

    name = "invariant_risk_minimization"
    family = "adaptation"
    kind = "penalty"
    reference = Reference("Invariant Risk Minimization", "1907.02893")
    hyperparameters = (
        Hyperparameter("strength", Positive(sweep=(0.1, 1e5)), 1.0),
        Hyperparameter("unbiased", Choice((True, False)), True, online=False, smooth=False),
        anneal_steps(500),
    )
    before = 1.0
    longest = 0.1
    needs = frozenset({"logits", "labels", "domains"})
    risk = "domains"

    def penalty(self, step: Step) -> Float[Tensor, "*batch"]:
        value = invariant_risk_minimization(step.logits, step.labels, step.domains, self.value(step, "unbiased"))
        return self.weighed(step, value)
