"""Decoupled weight decay (AdamW)."""

from __future__ import annotations

from selftune.objectives.common.start_rules import ADAMW_DECAY

from selftune.hyperparameters import Hyperparameter, Positive
from selftune.registries.reference import Reference
from selftune.regularization.decorators import proximal
from selftune.shapes import Float, Tensor


@proximal(
    family="supervision",
    reference=Reference("Decoupled Weight Decay Regularization", "1711.05101"),
    hyperparameters=[
        Hyperparameter(
            "strength", Positive(sweep=(1e-3, 10.0)), 1e-2, smooth=False, shared=True, start=ADAMW_DECAY
        ),
    ],
    when="before",
    uses_learning_rate=True,
    unitwise=True,
)
def decoupled_weight_decay(
    parameter: Float[Tensor, "*shape"], learning_rate: float, strength: float | Float[Tensor, "*rows"]
) -> Float[Tensor, "*shape"]:
    """Shrinks weights outside the loss: ``p - learning_rate * strength * p``, before the optimizer's step.

    With a learning rate or strength of zero the parameter is unchanged; matches ``torch.optim.AdamW``.

    Source: "Decoupled Weight Decay Regularization" (arXiv 1711.05101).
    """
    return parameter * (1 - learning_rate * strength)
