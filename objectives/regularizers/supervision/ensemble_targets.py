"""Targets from an ensemble of independently trained networks."""

from __future__ import annotations

from selftune.shapes import Float, Tensor


def ensemble_targets(
    logits: Float[Tensor, "members batch classes"], space: str = "logits"
) -> Float[Tensor, "batch classes"]:
    """The members' averaged predictions, without gradient.

    Args:
        space: "logits" averages logits (the normalised geometric mean of the predictions), "probabilities"
            averages predictions.

    Raises:
        ValueError: for any other space.

    Source: "Pre-training under Infinite Compute" (arXiv 2509.14786).

    >>> import torch
    >>> ensemble_targets(torch.tensor([[[2.0, 0.0]], [[0.0, 2.0]]]))
    tensor([[0.5000, 0.5000]])
    """
    if space == "logits":
        return logits.detach().mean(dim=0).softmax(dim=-1)
    if space == "probabilities":
        return logits.detach().softmax(dim=-1).mean(dim=0)
    raise ValueError(f"space must be 'logits' or 'probabilities', got {space!r}.")
