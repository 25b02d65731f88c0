"""Ghost batch normalisation: statistics of small groups inside a large batch."""

from __future__ import annotations

import torch

from selftune.shapes import Float, Tensor


def ghost_batch_norm(
    inputs: Float[Tensor, "batch features *spatial"], ghost_size: int, eps: float = 1e-5
) -> Float[Tensor, "batch features *spatial"]:
    """Normalises consecutive groups of ``ghost_size`` examples, each by its own mean and (biased) variance.

    The last group may be smaller; a group of one example without spatial axes becomes 0. Statistics also run
    over spatial axes. There is no affine map.

    Args:
        ghost_size: at least 1; from the batch size on this is ordinary batch normalisation.

    Raises:
        ValueError: if ``ghost_size`` is below 1.

    Source: "Train Longer, Generalize Better: Closing the Generalization Gap in Large Batch Training of Neural
    Networks" (arXiv 1705.08741, algorithm 1).

    >>> ghost_batch_norm(torch.tensor([[0.0], [2.0], [5.0], [5.0]]), ghost_size=2, eps=0.0)[:2]
    tensor([[-1.],
            [ 1.]])
    """
    if ghost_size < 1:
        raise ValueError(f"ghost_size must be at least 1, got {ghost_size}.")
    full = len(inputs) // ghost_size * ghost_size
    groups = [inputs[:full].reshape(-1, ghost_size, *inputs.shape[1:])] if full else []
    if full < len(inputs):
        groups.append(inputs[None, full:])
    return torch.cat([_normalized(group, eps).flatten(0, 1) for group in groups])


def _normalized(
    groups: Float[Tensor, "groups size features *spatial"], eps: float
) -> Float[Tensor, "groups size features *spatial"]:
    axes = (1, *range(3, groups.ndim))
    variance, mean = torch.var_mean(groups, dim=axes, correction=0, keepdim=True)
    return (groups - mean) / (variance + eps).sqrt()
