"""Learning without forgetting: the old model's predictions for old classes."""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F

from selftune.hyperparameters import Choice, Hyperparameter, Positive
from selftune.registries.reference import Reference
from selftune.regularization.decorators import penalty
from selftune.regularization.step import per_example
from selftune.shapes import Bool, Float, Tensor


@penalty(
    family="adaptation",
    reference=Reference("A Closer Look at Rehearsal-Free Continual Learning", "2203.17269"),
    strength=Positive(sweep=(0.1, 10.0)),
    default=1.0,
    needs={"logits": "logits", "old_logits": "old_logits", "old_classes": "old_classes"},
    hyperparameters=[
        Hyperparameter("temperature", Positive(sweep=(1.0, 4.0)), 2.0),
        Hyperparameter("link", Choice(("softmax", "sigmoid")), "softmax", online=False, smooth=False),
    ],
)
def prediction_distillation(
    logits: Float[Tensor, "batch classes"],
    old_logits: Float[Tensor, "batch classes"],
    old_classes: Bool[Tensor, "classes"],
    temperature: float | Float[Tensor, "*batch"] = 2.0,
    link: Literal["softmax", "sigmoid"] = "softmax",
) -> Float[Tensor, "batch"]:
    """Cross-entropy of the old model's with the new model's predictions among the old classes.

    No gradient reaches the old model or the logits of other classes; without old classes the value is zero.

    Args:
        temperature: positive, divides the logits; shape () or (batch,).
        link: softmax over the old classes, or one sigmoid per old class.

    Raises:
        ValueError: if the link is neither softmax nor sigmoid.

    Source: "A Closer Look at Rehearsal-Free Continual Learning" (arXiv 2203.17269); "Learning without Forgetting"
    (arXiv 1606.09282).

    >>> zeros, old = torch.zeros(1, 3), torch.tensor([True, True, False])
    >>> prediction_distillation(zeros, zeros, old), prediction_distillation(zeros, zeros, old, link="sigmoid")
    (tensor([0.6931]), tensor([1.3863]))
    """
    new = logits / per_example(temperature, logits)
    old = old_logits.detach() / per_example(temperature, logits)
    if link == "softmax":
        # not minus infinity, whose product with a probability of zero would be NaN
        outside = torch.finfo(new.dtype).min
        teacher = torch.softmax(old.masked_fill(~old_classes, outside), dim=1)
        terms = -teacher * torch.log_softmax(new.masked_fill(~old_classes, outside), dim=1)
    elif link == "sigmoid":
        terms = F.binary_cross_entropy_with_logits(new, torch.sigmoid(old), reduction="none")
    else:
        raise ValueError(f"link must be softmax or sigmoid, got {link}")
    return terms.where(old_classes, 0).sum(dim=1)
