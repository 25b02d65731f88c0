"""Cross-entropy with StableMax in the place of softmax."""

from __future__ import annotations

import torch

from selftune.hyperparameters import Hyperparameter, Unit
from selftune.registries.reference import Reference
from selftune.regularization.regularizer import Regularizer, register
from selftune.regularization.step import Step
from selftune.shapes import Float, Int, Tensor


def stablemax_cross_entropy(
    logits: Float[Tensor, "batch classes"], labels: Int[Tensor, "batch"]
) -> Float[Tensor, "batch"]:
    """``-log(s(z_label) / sum_c s(z_c))`` with s(z) = z + 1 for z >= 0 and 1 / (1 - z) below.

    As s grows only linearly, large logits do not absorb the others in floating point, and the gradient does not
    vanish there. Evaluated in double precision, returned in the precision of the logits.

    Args:
        labels: in [0, classes).

    Source: "Grokking at the Edge of Numerical Stability" (arXiv 2501.04697, StableMax).

    >>> stablemax_cross_entropy(torch.tensor([[1.0, -1.0]]), torch.tensor([0]))  # log(1 + 0.5 / 2)
    tensor([0.2231])
    """
    log_s = _log_s(logits)
    target = log_s.gather(1, labels.unsqueeze(1)).squeeze(1)
    return (torch.logsumexp(log_s, dim=1) - target).to(logits.dtype)


def _log_s(logits: Float[Tensor, "batch classes"]) -> Float[Tensor, "batch classes"]:
    wide = logits.to(torch.float64)
    # log s is odd: log(1 + z), mirrored. Clamps keep the branch that is not taken free of NaN gradients.
    return torch.where(wide >= 0, torch.log1p(wide.clamp_min(0)), -torch.log1p((-wide).clamp_min(0)))


@register
class StablemaxCrossEntropy(Regularizer):
    """Takes the cross-entropy with StableMax in the place of the training loss, or mixes the two.

    ``mix`` is the share of it, against that of the task's own loss. Targets that other regularizers soften count.
    """

    name = "stablemax_cross_entropy"
    family = "structure"
    kind = "penalty"
    reference = Reference("Grokking at the Edge of Numerical Stability", "2501.04697")
    hyperparameters = (Hyperparameter("mix", Unit(), 1.0),)
    needs = frozenset({"logits", "targets", "probs", "class_probabilities"})
    order = "problem"  # losses are weighted after they are replaced

    def losses(self, step: Step, losses: Float[Tensor, "batch"]) -> Float[Tensor, "batch"]:
        log_s = _log_s(step.logits)
        own = torch.logsumexp(log_s, dim=1) * step.targets.sum(dim=1) - (step.targets * log_s).sum(dim=1)
        mixed: Tensor = losses + self.value(step, "mix") * (own.to(losses.dtype) - losses)
        return mixed
