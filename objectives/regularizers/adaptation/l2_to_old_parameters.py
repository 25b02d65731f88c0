"""Parameters close to old ones."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from selftune.hyperparameters import Choice, Hyperparameter, Positive
from selftune.registries.reference import Reference
from selftune.regularization.regularizer import Regularizer, register
from selftune.regularization.step import Step
from selftune.shapes import Float, Tensor


def l2_to_old_parameters(
    parameters: Sequence[Float[Tensor, "*shape"]], old_parameters: Sequence[Float[Tensor, "*shape"]]
) -> Float[Tensor, ""]:
    """Sum of the squared changes of the parameters since the old ones, which get no gradient; no factor one half.

    Rows that a parameter has gained since (new classes of a head) are left out.

    Source: "A Closer Look at Rehearsal-Free Continual Learning" (arXiv 2203.17269).

    >>> l2_to_old_parameters([torch.tensor([3.0, 4.0])], [torch.zeros(2)])
    tensor(25.)
    """
    terms = []
    for new, old in zip(parameters, old_parameters, strict=True):
        kept = new[: len(old)] if new.shape != old.shape else new
        terms.append((kept - old.detach()).square().sum())
    return torch.stack(terms).sum()


@register
class L2ToOldParameters(Regularizer):
    """Keeps parameters close to those at the end of the last stage, or (``anchor: start``) at the start.

    The first anchor is the end of the first stage, unless it is the start.
    """

    name = "l2_to_old_parameters"
    family = "adaptation"
    kind = "penalty"
    reference = Reference("A Closer Look at Rehearsal-Free Continual Learning", "2203.17269")
    hyperparameters = (
        Hyperparameter("strength", Positive(sweep=(1e-5, 10.0)), 0.01, shared=True),
        Hyperparameter("anchor", Choice(("last_stage", "start")), "last_stage", online=False, smooth=False),
    )
    needs = frozenset({"parameters", "old_parameters", "initial_parameters", "stage"})

    def penalty(self, step: Step) -> Float[Tensor, ""]:
        from_start = self.value(step, "anchor") == "start"
        if step.stage == 0 and not from_start:
            return step.logits.new_zeros(())
        old = step.initial_parameters if from_start else step.old_parameters
        names = list(step.parameters)
        return l2_to_old_parameters([step.parameters[name] for name in names], [old[name] for name in names])
