"""V-REx: equal risks of the training domains."""

from __future__ import annotations

from selftune.objectives.common.annealing import Annealed, anneal_steps

from selftune.data.domains import balanced_weights, same_domain
from selftune.hyperparameters import Hyperparameter, Positive
from selftune.registries.reference import Reference
from selftune.regularization.regularizer import register
from selftune.regularization.step import Step
from selftune.shapes import Float, Int, Tensor


def risk_extrapolation(losses: Float[Tensor, "batch"], domains: Int[Tensor, "batch"]) -> Float[Tensor, ""]:
    """Variance of the domains' mean losses, divided by the number of domains.

    Source: "Out-of-Distribution Generalization via Risk Extrapolation" (arXiv 2003.00688).

    >>> import torch
    >>> risk_extrapolation(torch.tensor([1.0, 3.0, 6.0]), torch.tensor([0, 0, 1]))
    tensor(4.)
    """
    same = same_domain(domains)
    weights = balanced_weights(same, losses)
    members = same.to(losses)
    risks = members @ losses / members.sum(dim=1)
    return weights @ (risks - weights @ risks).square()


@register
class RiskExtrapolation(Annealed):
    """Variance of the domains' mean losses; in the first ``anneal`` steps with strength 1.

    Then the optimizer is reset. By default these are 500 steps, at most a tenth of the run, and none where the
    strength is tuned.
    """

    name = "risk_extrapolation"
    family = "adaptation"
    kind = "penalty"
    reference = Reference("Out-of-Distribution Generalization via Risk Extrapolation", "2003.00688")
    hyperparameters = (Hyperparameter("strength", Positive(sweep=(0.1, 1e5)), 10.0), anneal_steps(500))
    before = 1.0
    longest = 0.1
    needs = frozenset({"losses", "domains"})
    risk = "domains"

    def penalty(self, step: Step) -> Float[Tensor, "*batch"]:
        return self.weighed(step, risk_extrapolation(step.losses, step.domains))
