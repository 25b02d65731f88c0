"""Linear stability of a minimum under stochastic gradient descent."""

from __future__ import annotations

import torch

from selftune.registries.diagnostics import diagnostic
from selftune.registries.reference import Reference
from selftune.shapes import Float, Tensor

_LARGEST_RANK = 32  # the operator has rank ** 4 entries


@diagnostic(
    family="structure",
    reference=Reference(
        "The Implicit Regularization of Dynamical Stability in Stochastic Gradient Descent", "2305.17490"
    ),
    needs={"per_sample_gradients": "sample_gradients", "learning_rate": "learning_rate"},
    better="min",
    results=("trace_ratio", "top_ratio", "growth"),
)
def linear_stability(
    per_sample_gradients: Float[Tensor, "n d"],
    *,
    learning_rate: float | Float[Tensor, ""],
    batch_size: int | None = 1,
) -> tuple[Float[Tensor, ""], Float[Tensor, ""], Float[Tensor, ""]]:
    """``(trace_ratio, top_ratio, growth)`` of a run that rests at a minimum which fits its data.

    With G the mean of the outer products of the gradients, the first two are learning_rate / 2 times trace and
    largest eigenvalue of G. ``growth`` is the factor by which a step multiplies the second moment of a small
    deviation within the span of G (its spectral radius): stable in mean square if at most 1. A trace ratio above 1
    is unstable for batches of one; full batches are unstable above a top ratio of 1.

    In a study the gradients are those of the losses of some validation examples, and G is the empirical Fisher
    matrix.

    Args:
        per_sample_gradients: of the network's (scalar) output under the squared loss ``1/2 (output - target)^2``.
        learning_rate: positive.
        batch_size: of batches drawn with replacement; None for full batches.

    Returns:
        ``growth`` is NaN if G has a rank above 32, and 0 if all gradients are zero.

    Source: "The Implicit Regularization of Dynamical Stability in Stochastic Gradient Descent"
    (arXiv 2305.17490); the operator is derived from its definition of stability.

    >>> linear_stability(torch.tensor([[2.0, 0.0], [0.0, 2.0]]), learning_rate=0.5)
    (tensor(1.), tensor(0.5000), tensor(1.))
    """
    samples = len(per_sample_gradients)
    _, singular_values, directions = torch.linalg.svd(per_sample_gradients, full_matrices=False)
    eigenvalues = singular_values.square() / samples
    trace_ratio = learning_rate * eigenvalues.sum() / 2
    top_ratio = learning_rate * eigenvalues[0] / 2

    spanning = eigenvalues > 1e-10 * eigenvalues[0]
    rank = int(spanning.sum())
    if rank == 0:
        return trace_ratio, top_ratio, torch.zeros_like(trace_ratio)
    if rank > _LARGEST_RANK:
        return trace_ratio, top_ratio, torch.full_like(trace_ratio, torch.nan)
    gradients = per_sample_gradients @ directions[:rank].T
    covariance = torch.diag(eigenvalues[:rank])
    step = torch.eye(rank, dtype=covariance.dtype, device=covariance.device) - learning_rate * covariance
    operator = torch.kron(step, step)
    if batch_size is not None:
        squares = torch.einsum("ni,nj->nij", gradients, gradients).flatten(1)
        fourth_moment = squares.T @ squares / samples
        operator = operator + learning_rate**2 / batch_size * (fourth_moment - torch.kron(covariance, covariance))
    return trace_ratio, top_ratio, torch.linalg.eigvalsh(operator).abs().amax()
