"""Which examples share a domain, and averages in which every domain weighs the same."""

from __future__ import annotations

import torch

from selftune.shapes import Bool, Float, Int, Tensor


def same_domain(domains: Int[Tensor, "batch"]) -> Bool[Tensor, "batch batch"]:
    """Which examples share a domain.

    >>> import torch
    >>> same_domain(torch.tensor([3, 7, 3])).int()
    tensor([[1, 0, 1],
            [0, 1, 0],
            [1, 0, 1]], dtype=torch.int32)
    """
    return domains[:, None] == domains


def balanced_weights(same: Bool[Tensor, "batch batch"], like: Tensor) -> Float[Tensor, "batch"]:
    """Weights with which a sum over examples is the mean over domains of the mean over a domain's examples.

    With them no loop over domains is needed, nor their number, which only the host could know.

    >>> import torch
    >>> balanced_weights(same_domain(torch.tensor([3, 7, 3])), torch.zeros(0))
    tensor([0.2500, 0.5000, 0.2500])
    """
    shares = 1 / same.sum(dim=1).to(like)
    return shares / shares.sum()


def balanced(losses: Float[Tensor, "batch"], domains: Int[Tensor, "batch"]) -> Float[Tensor, "batch"]:
    """Losses whose plain mean is the mean over domains of the mean over a domain's examples.

    >>> import torch
    >>> balanced(torch.tensor([1.0, 5.0, 3.0]), torch.tensor([3, 7, 3])).mean()
    tensor(3.5000)
    """
    return losses * balanced_weights(same_domain(domains), losses) * len(losses)


def groups(values: Int[Tensor, "examples"], pool: Int[Tensor, "pool"]) -> list[Int[Tensor, "group"]]:
    """The positions of a pool, apart by the value of their examples, in ascending order of the values.

    >>> import torch
    >>> groups(torch.tensor([7, 3, 7, 3]), torch.tensor([0, 1, 2]))
    [tensor([1]), tensor([0, 2])]
    """
    own = values[pool]
    return [pool[own == value] for value in torch.unique(own)]
