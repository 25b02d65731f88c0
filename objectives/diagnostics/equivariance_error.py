"""How far a function is from equivariance, free of scale and labels."""

from __future__ import annotations

import torch

from selftune.registries.diagnostics import diagnostic
from selftune.registries.reference import Reference
from selftune.shapes import Float, Tensor


@diagnostic(
    family="adaptation",
    reference=Reference("Regularizing Towards Soft Equivariance Under Mixed Symmetries", "2306.00356"),
    better="min",
)
def equivariance_error(
    output_of_transformed: Float[Tensor, "transforms batch out"],
    transformed_output: Float[Tensor, "transforms batch out"],
    epsilon: float = 1e-12,
) -> Float[Tensor, ""]:
    """Distance between the output of transformed inputs and the transformed output, over the sum of their norms.

    Averaged over transforms and examples; in [0, 1].

    Args:
        epsilon: positive, added to the sum of norms.

    Source: "Regularizing Towards Soft Equivariance Under Mixed Symmetries" (arXiv 2306.00356).

    >>> equivariance_error(torch.tensor([[[1.0, 0.0]]]), torch.tensor([[[-3.0, 0.0]]]))
    tensor(1.)
    """
    distance = torch.linalg.vector_norm(output_of_transformed - transformed_output, dim=-1)
    scale = torch.linalg.vector_norm(torch.stack([output_of_transformed, transformed_output]), dim=-1).sum(dim=0)
    return torch.mean(distance / (scale + epsilon))
