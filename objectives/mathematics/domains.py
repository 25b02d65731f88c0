"""Averages over the domains that a batch comes from."""

from __future__ import annotations

import torch

from selftune.shapes import Float, Int, Tensor


def averaging_matrix(domains: Int[Tensor, "batch"], like: Tensor) -> Float[Tensor, "domains batch"]:
    """The matrix that maps values of examples to means of domains, in ascending order of the domains.

    >>> averaging_matrix(torch.tensor([3, 7, 3]), torch.zeros(0))
    tensor([[0.5000, 0.0000, 0.5000],
            [0.0000, 1.0000, 0.0000]])
    """
    members: Tensor = (torch.unique(domains)[:, None] == domains).to(like)
    return members / members.sum(dim=1, keepdim=True)
