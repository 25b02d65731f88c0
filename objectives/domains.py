"""Averages over the domains that a batch comes from."""

from __future__ import annotations

import torch

from selftune.shapes import Bool, Float, Int, Tensor


def same_domain(domains: Int[Tensor, "batch"]) -> Bool[Tensor, "batch batch"]:
    """Which examples share a domain.

    >>> same_domain(torch.tensor([3, 7, 3])).int()
    tensor([[1, 0, 1],
            [0, 1, 0],
            [1, 0, 1]], dtype=torch.int32)
    """
    return domains[:, None] == domains


def balanced_weights(same: Bool[Tensor, "batch batch"], like: Tensor) -> Float[Tensor, "batch"]:
    """Weights with which a sum over examples is the mean over domains of the mean over a domain's examples.

    With them no loop over domains is needed, nor their number, which only the host could know.

    >>> balanced_weights(same_domain(torch.tensor([3, 7, 3])), torch.zeros(0))
    tensor([0.2500, 0.5000, 0.2500])
    """
    shares = 1 / same.sum(dim=1).to(like)
    return shares / shares.sum()


def averaging_matrix(domains: Int[Tensor, "batch"], like: Tensor) -> Float[Tensor, "domains batch"]:
    """The matrix that maps values of examples to means of domains, in ascending order of the domains.

    >>> averaging_matrix(torch.tensor([3, 7, 3]), torch.zeros(0))
    tensor([[0.5000, 0.0000, 0.5000],
            [0.0000, 1.0000, 0.0000]])
    """
    members: Tensor = (torch.unique(domains)[:, None] == domains).to(like)
    return members / members.sum(dim=1, keepdim=True)
