"""Kullback-Leibler divergence between a policy's and a frozen reference's tokens."""

from __future__ import annotations

from typing import Literal

import torch

from selftune.hyperparameters import Choice, Hyperparameter, Positive
from selftune.registries.reference import Reference
from selftune.regularization.decorators import penalty
from selftune.regularization.quantity import Quantity, quantities
from selftune.shapes import Bool, Float, Tensor

quantities.declare(
    Quantity(
        "reference_token_logits",
        ("batch", "tokens", "vocabulary"),
        "float",
        "outputs at every position of the network at the start",
    ),
    Quantity("token_mask", ("batch", "tokens"), "bool", "True where a position counts"),
)


@penalty(
    family="adaptation",
    reference=Reference("Training language models to follow instructions with human feedback", "2203.02155"),
    strength=Positive(sweep=(1e-3, 1.0)),
    default=0.01,
    needs={"logits": "token_logits", "reference_logits": "reference_token_logits", "mask": "token_mask"},
    hyperparameters=[
        Hyperparameter("direction", Choice(("policy", "reference")), "policy", online=False, smooth=False)
    ],
)
def kl_to_reference(
    logits: Float[Tensor, "batch tokens vocabulary"],
    reference_logits: Float[Tensor, "batch tokens vocabulary"],
    mask: Bool[Tensor, "batch tokens"],
    direction: Literal["policy", "reference"] = "policy",
) -> Float[Tensor, "batch"]:
    """Divergence of the token distributions, summed over the tokens of the mask.

    Direction ``policy`` takes the expectation under the policy, ``reference`` under the reference, which no
    gradient reaches.

    Raises:
        ValueError: if the direction is neither policy nor reference.

    Source: "Training language models to follow instructions with human feedback" (arXiv 2203.02155).

    >>> uniform, certain = torch.zeros(1, 1, 2), torch.tensor([[[0.0, -100.0]]])
    >>> kl_to_reference(certain, uniform, torch.tensor([[True]]))
    tensor([0.6931])
    """
    if direction not in ("policy", "reference"):
        raise ValueError(f"direction must be policy or reference, got {direction}")
    policy = torch.log_softmax(logits, dim=-1)
    reference = torch.log_softmax(reference_logits.detach(), dim=-1)
    first, second = (policy, reference) if direction == "policy" else (reference, policy)
    divergence = (first.exp() * (first - second)).sum(dim=-1)
    return divergence.where(mask, 0).sum(dim=-1)


def sampled_kl_to_reference(
    policy_log_probs: Float[Tensor, "batch tokens"],
    reference_log_probs: Float[Tensor, "batch tokens"],
    mask: Bool[Tensor, "batch tokens"],
    estimator: Literal["k1", "k2", "k3"] = "k3",
) -> Float[Tensor, "batch"]:
    """Estimate of the divergence from tokens that were sampled from the policy, summed over those of the mask.

    With r the reference's log-probability minus the policy's: k1 is ``-r`` (unbiased, of either sign), k2 is
    ``r^2 / 2``, k3 is ``exp(r) - r - 1`` (unbiased, never negative). No gradient reaches the reference.

    Raises:
        ValueError: if the estimator is none of k1, k2 and k3.

    Source: "Approximating KL Divergence" (Schulman, 2020).

    >>> policy, reference = torch.tensor([[-1.0]]), torch.tensor([[-3.0]])
    >>> sampled_kl_to_reference(policy, reference, torch.tensor([[True]]), estimator="k1")
    tensor([2.])
    """
    # before anything else, because padding may hold anything
    policy, reference = policy_log_probs.where(mask, 0), reference_log_probs.detach().where(mask, 0)
    ratio = reference - policy
    if estimator == "k1":
        terms = -ratio
    elif estimator == "k2":
        terms = 0.5 * ratio.square()
    elif estimator == "k3":
        terms = torch.expm1(ratio) - ratio
    else:
        raise ValueError(f"estimator must be k1, k2 or k3, got {estimator}")
    return terms.sum(dim=-1)
