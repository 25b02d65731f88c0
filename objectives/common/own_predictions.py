"""What a network predicts for the examples of a batch, each by itself: what tables of training examples keep."""

from __future__ import annotations

from selftune.regularization.step import Step
from selftune.shapes import Float, Tensor


def own_probs(step: Step) -> Float[Tensor, "own classes"]:
    """Predictions for the examples that have an ``index``, without gradient.

    Where examples were mixed, by another pass on those before, without what acts on layers.
    """
    own = len(step.index)
    if not step.mixings:
        return step.probs[:own].detach()
    clean = step.mixings[0].inputs[:own].detach()
    logits = step.asks.pass_copy(step, step.parameters, clean, batch_statistics=True).logits
    probs: Tensor = logits.softmax(dim=-1)
    return probs
