"""Linear maps that regularizers add to a network and train with it."""

from __future__ import annotations

import torch.nn.functional as F
from torch import nn

from selftune.regularization.step import Step
from selftune.shapes import Float, Tensor


class Head:
    """A linear map whose tensors are plain parameters of the network.

    They are no module, because a sequential network would call it.

    Args:
        name: prefix of the two parameters.

    >>> network = nn.Sequential(nn.Linear(3, 2))
    >>> Head("probe").add(network, inputs=3, outputs=4)
    >>> network.probe_weight.shape
    torch.Size([4, 3])
    """

    def __init__(self, name: str) -> None:
        self.name = name

    def add(self, network: nn.Module, inputs: int, outputs: int) -> None:
        """Registers freshly initialised tensors of the network's type, on its device."""
        drawn = nn.Linear(inputs, outputs).to(next(network.parameters()))
        for name, parameter in drawn.named_parameters():
            network.register_parameter(f"{self.name}_{name}", parameter)

    def __call__(self, step: Step, features: Float[Tensor, "batch inputs"]) -> Float[Tensor, "batch outputs"]:
        weight, bias = step.parameters[f"{self.name}_weight"], step.parameters[f"{self.name}_bias"]
        return F.linear(features, weight, bias)

    def remove(self, state: dict[str, Tensor]) -> None:
        """Takes its tensors out of those of a trained network."""
        del state[f"{self.name}_weight"], state[f"{self.name}_bias"]
