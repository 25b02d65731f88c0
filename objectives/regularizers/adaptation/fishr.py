"""Fishr: equal variances of the examples' gradients across domains."""

from __future__ import annotations

from selftune.objectives.domains import averaging_matrix

from selftune.shapes import Float, Int, Tensor


def fishr(
    gradients: Float[Tensor, "batch parameters"],
    domains: Int[Tensor, "batch"],
    previous: Float[Tensor, "domains parameters"] | None = None,
    decay: float | Float[Tensor, ""] = 0.95,
) -> Float[Tensor, ""]:
    """Variance across domains of the per-domain gradient variances, averaged over parameters.

    Args:
        gradients: of every example's loss, with their graph.
        previous: running averages of the domains' variances, in ascending order of the domains; mixed in by
            ``decay`` and rescaled so that averages of zero change nothing. They get no gradient.
        decay: in [0, 1).

    Raises:
        ValueError: if ``previous`` does not have one row for every domain of the batch.

    Source: "Fishr: Invariant Gradient Variances for Out-of-Distribution Generalization" (arXiv 2109.02934),
    with the running averages of its code.

    >>> import torch
    >>> fishr(torch.tensor([[1.0], [-1.0], [3.0], [-3.0]]), torch.tensor([0, 0, 1, 1]))
    tensor(16.)
    """
    variances = _domain_variances(gradients, averaging_matrix(domains, gradients))
    if previous is not None:
        if len(previous) != len(variances):
            raise ValueError(f"the batch holds {len(variances)} domains, but previous has {len(previous)} rows")
        variances = variances + decay / (1 - decay) * previous.detach()
    return (variances - variances.mean(dim=0)).square().mean()


def _domain_variances(gradients: Tensor, averaging: Tensor) -> Float[Tensor, "domains parameters"]:
    """Elementwise variances of every domain's gradients, divided by their number."""
    means = averaging @ gradients
    own = averaging.argmax(dim=0)
    return averaging @ (gradients - means[own]).square()
