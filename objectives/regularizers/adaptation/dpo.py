"""Direct preference optimisation."""

from __future__ import annotations

import torch.nn.functional as F

from selftune.hyperparameters import Hyperparameter, Interval, Positive
from selftune.registries.reference import Reference
from selftune.regularization.decorators import penalty
from selftune.regularization.quantity import Quantity, quantities
from selftune.shapes import Float, Tensor

quantities.declare(
    Quantity("policy_chosen", ("batch",), "float", "log-probability of the preferred response"),
    Quantity("policy_rejected", ("batch",), "float", "log-probability of the other one"),
    Quantity(
        "reference_chosen",
        ("batch",),
        "float",
        "log-probability of the preferred response by the network at the start",
    ),
    Quantity("reference_rejected", ("batch",), "float", "that of the other one"),
)


@penalty(
    family="adaptation",
    reference=Reference(
        "Direct Preference Optimization: Your Language Model is Secretly a Reward Model", "2305.18290"
    ),
    strength=Positive(sweep=(0.1, 10.0)),
    default=1.0,
    needs={name: name for name in ("policy_chosen", "policy_rejected", "reference_chosen", "reference_rejected")},
    hyperparameters=[
        Hyperparameter("beta", Positive(sweep=(0.01, 0.5)), 0.1),
        Hyperparameter("label_smoothing", Interval(0.0, 0.5, sweep=(0.0, 0.3)), 0.0),
    ],
)
def dpo(
    policy_chosen: Float[Tensor, "batch"],
    policy_rejected: Float[Tensor, "batch"],
    reference_chosen: Float[Tensor, "batch"],
    reference_rejected: Float[Tensor, "batch"],
    beta: float | Float[Tensor, "*batch"] = 0.1,
    label_smoothing: float | Float[Tensor, "*batch"] = 0.0,
) -> Float[Tensor, "batch"]:
    """Logistic loss of the difference in implicit reward between the preferred and the rejected response.

    No gradient reaches the reference.

    Args:
        policy_chosen, policy_rejected: log-probabilities of both responses under the policy.
        reference_chosen, reference_rejected: the same under the frozen reference.
        beta: positive; shape () or (batch,).
        label_smoothing: probability that a preference is the wrong way round, in [0, 0.5); shape () or (batch,).

    Source: "Direct Preference Optimization: Your Language Model is Secretly a Reward Model" (arXiv 2305.18290,
    equation 7), with the label smoothing of its code.

    >>> import torch
    >>> zero, one = torch.zeros(1), torch.ones(1)
    >>> dpo(zero, zero, one, one), dpo(one, zero, zero, zero, beta=1.0)
    (tensor([0.6931]), tensor([0.3133]))
    """
    margin = policy_chosen - policy_rejected - (reference_chosen - reference_rejected).detach()
    right, wrong = F.logsigmoid(beta * margin), F.logsigmoid(-beta * margin)
    return (label_smoothing - 1) * right - label_smoothing * wrong
