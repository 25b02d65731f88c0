"""CORAL: equal means and covariances of features across domains."""

from __future__ import annotations

from selftune.data.domains import balanced_weights, same_domain
from selftune.hyperparameters import Choice, Hyperparameter, Positive
from selftune.registries.reference import Reference
from selftune.regularization.decorators import penalty
from selftune.shapes import Float, Int, Tensor


@penalty(
    family="adaptation",
    reference=Reference("Deep CORAL: Correlation Alignment for Deep Domain Adaptation", "1607.01719"),
    strength=Positive(sweep=(0.1, 10.0)),
    default=1.0,
    needs={"features": "features", "domains": "domains"},
    risk="domains",
    hyperparameters=[Hyperparameter("include_mean", Choice((True, False)), True, online=False, smooth=False)],
)
def correlation_alignment(
    features: Float[Tensor, "batch dim"], domains: Int[Tensor, "batch"], include_mean: bool = True
) -> Float[Tensor, ""]:
    """Mean squared differences of the domains' means and covariances, averaged over pairs of domains.

    Covariances divide by n - 1; that of a domain with a single example is zero, and so is everything with a
    single domain.

    Args:
        include_mean: False leaves out the means, as the original criterion did.

    Source: "Deep CORAL: Correlation Alignment for Deep Domain Adaptation" (arXiv 1607.01719), averaged over
    entries and with means as in domain generalisation (arXiv 2007.01434).

    >>> import torch
    >>> features = torch.tensor([[0.0], [2.0], [1.0], [1.0]])
    >>> correlation_alignment(features + torch.tensor([[0.0], [0.0], [3.0], [3.0]]), torch.tensor([0, 0, 1, 1]))
    tensor(13.)
    """
    same = same_domain(domains)
    members = same.to(features)
    sizes = members.sum(dim=1, keepdim=True)
    number = (1 / sizes).sum()
    means = members @ features / sizes
    centred = (features - means) / (sizes - 1).clamp_min(1).sqrt()
    # The mean over pairs of a squared difference is 2 E / (E - 1) times the variance over the E domains. That of
    # the covariances follows from inner products of examples, without a (dim, dim) matrix per domain.
    covariances = ((members - 1 / number) * (centred @ centred.T).square()).sum() / number
    variance = covariances / features.shape[1] ** 2
    if include_mean:
        weights = balanced_weights(same, features)
        variance = variance + (weights @ (means - weights @ means).square()).mean()
    return 2 * number / (number - 1).clamp_min(1) * variance
