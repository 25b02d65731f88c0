"""Two weights, of which decay alone takes one away: how far hypergradients look shows."""

from __future__ import annotations

import torch
from torch import nn

Data = tuple[torch.Tensor, torch.Tensor]


class TwoWeights(nn.Module):
    """The first weight is to become 1; the second starts at 1 and is to become 0."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(2, 1, bias=False)
        with torch.no_grad():
            self.layer.weight.copy_(torch.tensor([[0.0, 1.0]]))

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.layer(inputs)
        return out


def one_weight_unseen() -> tuple[Data, Data, Data]:
    """Splits for ``TwoWeights``: training data are blind to its second weight, the others are not."""
    generator = torch.Generator().manual_seed(0)

    def split(examples: int, second: float) -> Data:
        inputs = torch.tensor([1.0, second]).expand(examples, 2).clone()
        return inputs, 1 + 0.1 * torch.randn(examples, 1, generator=generator)

    return split(32, 0.0), split(64, 1.0), split(64, 1.0)
