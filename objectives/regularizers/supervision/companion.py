"""Networks that regularizers train beside the network of the objective."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from selftune.modes import evaluating
from selftune.network_state import load_state, state_of
from selftune.objective import NetworkObjective, Optimization
from selftune.shapes import Float, Tensor


class Companion:
    """A network with an optimizer of its own; no regularizer acts on it.

    Args:
        network: on its device.
        optimization: as that of the objective.

    >>> companion = Companion(nn.Linear(2, 1), Optimization(learning_rate=0.1))
    >>> companion.descend(companion.network(torch.ones(1, 2)).sum())
    """

    def __init__(self, network: nn.Module, optimization: Optimization) -> None:
        self.network = network
        self.optimizer = optimization.build(list(network.parameters()), network)

    @torch.no_grad()
    def losses(
        self, objective: NetworkObjective, inputs: Float[Tensor, "batch ..."], targets: Tensor
    ) -> Float[Tensor, "batch"]:
        """Losses in evaluation mode, without gradient."""
        return objective.loss(self.predict(inputs), targets)

    @torch.no_grad()
    def predict(self, inputs: Float[Tensor, "batch ..."]) -> Tensor:
        """Outputs in evaluation mode, without gradient."""
        with evaluating(self.network):
            return self.network(inputs)

    def descend(self, loss: Float[Tensor, ""]) -> None:
        """One step of the optimizer."""
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()

    def state_dict(self) -> dict[str, Any]:
        return {"network": state_of(self.network), "optimizer": self.optimizer.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        load_state(self.network, state["network"])
        self.optimizer.load_state_dict(state["optimizer"])
