"""Features close to the old model's."""

from __future__ import annotations

from selftune.shapes import Float, Tensor


def old_feature_distillation(
    features: Float[Tensor, "batch dim"], old_features: Float[Tensor, "batch dim"]
) -> Float[Tensor, "batch"]:
    """Squared distance of the features from those of the old model, which get no gradient.

    Source: "A Closer Look at Rehearsal-Free Continual Learning" (arXiv 2203.17269).

    >>> import torch
    >>> old_feature_distillation(torch.tensor([[3.0, 4.0]]), torch.zeros(1, 2))
    tensor([25.])
    """
    return (features - old_features.detach()).square().sum(dim=1)
