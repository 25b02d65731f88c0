"""Adaptive mixup: mixing ratios from a learned interval, and the loss that teaches it."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from selftune.objectives.regularizers.supervision.mixup import mixup

from selftune.shapes import Float, Int, Tensor


def adaptive_mixup(
    inputs: Float[Tensor, "batch *shape"],
    targets: Float[Tensor, "batch classes"],
    permutation: Int[Tensor, "batch"],
    policy_logits: Float[Tensor, "batch 3"],
    uniform: Float[Tensor, "batch"],
) -> tuple[Float[Tensor, "batch *shape"], Float[Tensor, "batch classes"]]:
    """Mixup with ratios from each pair's own interval inside (0, 1), through which gradients reach the policy.

    Args:
        policy_logits: their softmax is (start, width, rest); the ratio is ``start + uniform * width``.
        uniform: draws from [0, 1), one per pair.

    Source: "MixUp as Locally Linear Out-Of-Manifold Regularization" (arXiv 1809.02499).

    >>> x, y = torch.tensor([[0.0], [1.0]]), torch.eye(2)
    >>> adaptive_mixup(x, y, torch.tensor([1, 0]), torch.zeros(2, 3), torch.tensor([0.0, 0.5]))[0]
    tensor([[0.6667],
            [0.5000]])
    """
    start, width, _ = policy_logits.softmax(dim=-1).unbind(dim=-1)
    return mixup(inputs, targets, permutation, start + uniform * width)


def intrusion_loss(
    real_logits: Float[Tensor, "n 2"], mixed_logits: Float[Tensor, "m 2"]
) -> Float[Tensor, "n_plus_m"]:
    """Cross-entropy of telling real inputs (class 1) from mixed ones (class 0), the real ones first.

    The network, the head and the policy of ``adaptive_mixup`` all minimise it: the policy makes mixtures that
    can be recognised as such and so cannot conflict with labels of real data.

    Source: "MixUp as Locally Linear Out-Of-Manifold Regularization" (arXiv 1809.02499).

    >>> intrusion_loss(torch.zeros(1, 2), torch.zeros(1, 2))
    tensor([0.6931, 0.6931])
    """
    logits = torch.cat([real_logits, mixed_logits])
    labels = torch.arange(len(logits), device=logits.device) < len(real_logits)
    return F.cross_entropy(logits, labels.long(), reduction="none")
