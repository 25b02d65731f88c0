"""A factorised layer whose components are ordered by importance, cut to its first ones."""

from __future__ import annotations

from selftune.shapes import Float, Tensor


def ordered_low_rank(
    inputs: Float[Tensor, "batch in"], up: Float[Tensor, "out rank"], down: Float[Tensor, "rank in"], *, keep: int
) -> Float[Tensor, "batch out"]:
    """Output of the layer (without bias) with its first ``keep`` components: ``sum_k up[:, k] (down[k] . x)``.

    Args:
        keep: from 0 to the rank.

    Raises:
        ValueError: if ``keep`` is out of range.

    Source: "Maestro: Uncovering Low-Rank Structures via Trainable Decomposition" (arXiv 2308.14929, section 3).

    >>> import torch
    >>> up, down = torch.tensor([[1.0, 1.0]]), torch.tensor([[2.0, 0.0], [0.0, 3.0]])
    >>> [ordered_low_rank(torch.ones(1, 2), up, down, keep=k).item() for k in (0, 1, 2)]
    [0.0, 2.0, 5.0]
    """
    if not 0 <= keep <= len(down):
        raise ValueError(f"ordered_low_rank needs keep from 0 to {len(down)}, the rank, got {keep}.")
    return inputs @ down[:keep].T @ up[:, :keep].T
