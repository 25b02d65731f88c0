"""The weighted mean of the workers' gradients."""

from __future__ import annotations

from selftune.registries.reference import Reference
from selftune.regularization.decorators import aggregator
from selftune.shapes import Float, Int, Tensor


@aggregator(
    family="structure",
    reference=Reference("Data-parallel averaging of gradients (textbook)"),
    coordinatewise=True,
)
def mean_aggregation(
    gradients: Float[Tensor, "workers size"],
    weights: Float[Tensor, "workers"] | Int[Tensor, "workers"] | None = None,
) -> Float[Tensor, "size"]:
    """The mean of the workers' gradients, by default unweighted. It has no robustness at all.

    Args:
        weights: non-negative, not all zero; with the numbers of samples the workers saw, the result is the
            gradient on the joint batch.

    Source: data-parallel averaging (textbook).

    >>> import torch
    >>> mean_aggregation(torch.tensor([[0.0, 4.0], [4.0, 0.0]]), torch.tensor([3, 1]))
    tensor([1., 3.])
    """
    if weights is None:
        return gradients.mean(dim=0)
    weights = weights.to(gradients.dtype)
    return weights @ gradients / weights.sum()
