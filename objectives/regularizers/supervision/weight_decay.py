"""Coupled L2 weight decay."""

from __future__ import annotations

import torch
from selftune.objectives.common.start_rules import PENALTY_DECAY

from selftune.hyperparameters import Positive
from selftune.registries.reference import Reference
from selftune.regularization.decorators import penalty
from selftune.shapes import Float, Tensor


@penalty(
    family="supervision",
    reference=Reference("A simple weight decay can improve generalization (Krogh and Hertz, 1991)"),
    strength=Positive(sweep=(1e-6, 1e-1)),
    default=5e-4,
    start=PENALTY_DECAY,
    needs={"parameters": "parameters"},
    unitwise=lambda rows: 0.5 * rows.square().sum(dim=1),
)
def weight_decay(parameters: list[Tensor]) -> Float[Tensor, ""]:
    """Half the squared Euclidean norm of the weights; its gradient is the weights themselves.

    As a regularizer it collects the weights of layers (tensors of two or more axes), not biases or gains.

    Source: "A simple weight decay can improve generalization" (Krogh and Hertz, 1991).

    >>> weight_decay([torch.tensor([3.0, 4.0])])
    tensor(12.5000)
    """
    squares = [flat @ flat for flat in (p.reshape(-1) for p in parameters)]
    return 0.5 * (squares[0] if len(squares) == 1 else torch.stack(squares).sum())
