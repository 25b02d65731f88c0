"""Elastic weight consolidation: parameters close to old ones, weighted by how much each mattered."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from selftune.shapes import Float, Tensor


def ewc(
    parameters: Sequence[Float[Tensor, "*shape"]],
    old_parameters: Sequence[Float[Tensor, "*shape"]],
    fisher: Sequence[Float[Tensor, "*shape"]],
) -> Float[Tensor, ""]:
    """Sum of the squared changes of the parameters, each times its Fisher information; no factor one half.

    Rows that a parameter has gained since (new classes of a head) are left out. No gradient reaches the old
    parameters or the information.

    Args:
        fisher: diagonal Fisher information at the old parameters, of their shapes.

    Source: "Overcoming catastrophic forgetting in neural networks" (arXiv 1612.00796, equation 3), without its
    factor, as in "A Closer Look at Rehearsal-Free Continual Learning" (arXiv 2203.17269).

    >>> ewc([torch.tensor([3.0, 4.0])], [torch.zeros(2)], [torch.tensor([1.0, 2.0])])
    tensor(41.)
    """
    terms = []
    for new, old, information in zip(parameters, old_parameters, fisher, strict=True):
        kept = new[: len(old)] if new.shape != old.shape else new
        terms.append((information.detach() * (kept - old.detach()).square()).sum())
    return torch.stack(terms).sum()


def diagonal_fisher(gradients: Float[Tensor, "samples parameters"]) -> Float[Tensor, "parameters"]:
    """Mean over samples of the squared gradients of their log-likelihoods.

    With labels drawn from the model this is the Fisher information, with the observed ones the empirical one.
    Gradients are squared sample by sample, never that of a batch.

    Source: "Overcoming catastrophic forgetting in neural networks" (arXiv 1612.00796).

    >>> diagonal_fisher(torch.tensor([[1.0, 0.0], [3.0, 2.0]]))
    tensor([5., 2.])
    """
    return gradients.square().mean(dim=0)
