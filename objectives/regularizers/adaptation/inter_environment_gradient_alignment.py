"""IGA: equal gradients of the training domains."""

from __future__ import annotations

from selftune.hyperparameters import Positive
from selftune.registries.reference import Reference
from selftune.regularization.decorators import penalty
from selftune.shapes import Float, Tensor


@penalty(
    family="adaptation",
    reference=Reference(
        "When is invariance useful in an Out-of-Distribution Generalization problem?", "2008.01883"
    ),
    strength=Positive(sweep=(0.1, 1e5)),
    default=1.0,
    needs={"gradients": "domain_gradients"},
    risk="domains",
    waits="it takes a gradient for every domain of the batch",
)
def inter_environment_gradient_alignment(gradients: Float[Tensor, "domains parameters"]) -> Float[Tensor, ""]:
    """Mean over domains of the squared distance of a domain's gradient from the mean gradient.

    DomainBed adds up over domains and takes a strength of 1000, which ends at chance where gradients of all
    parameters are large; 1 trains.

    Args:
        gradients: of every domain's mean loss, with their graph.

    Source: "When is invariance useful in an Out-of-Distribution Generalization problem?" (arXiv 2008.01883).

    >>> import torch
    >>> inter_environment_gradient_alignment(torch.tensor([[0.0, 0.0], [2.0, 4.0]]))
    tensor(5.)
    """
    return (gradients - gradients.mean(dim=0)).square().sum(dim=1).mean()
