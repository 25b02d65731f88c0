"""Features close to the old model's."""

from __future__ import annotations

from selftune.hyperparameters import Hyperparameter, Positive
from selftune.registries.reference import Reference
from selftune.regularization.regularizer import Regularizer, register
from selftune.regularization.step import Step
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


@register
class OldFeatureDistillation(Regularizer):
    """Keeps features close to those of the network at the end of the last stage; nothing in the first stage."""

    name = "old_feature_distillation"
    family = "adaptation"
    kind = "penalty"
    reference = Reference("A Closer Look at Rehearsal-Free Continual Learning", "2203.17269")
    hyperparameters = (Hyperparameter("strength", Positive(sweep=(1e-4, 1.0)), 1e-2),)
    needs = frozenset({"features", "old_features", "stage"})

    def penalty(self, step: Step) -> Float[Tensor, "*batch"]:
        features: Tensor = step.features
        if step.stage == 0:
            return features.new_zeros(())
        return old_feature_distillation(features, step.old_features)
