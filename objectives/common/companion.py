"""Networks that regularizers train beside the network of the objective."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from selftune.lower_level.objective import NetworkObjective
from selftune.networks.modes import evaluating
from selftune.networks.network_state import load_state, state_of
from selftune.shapes import Float, Tensor


class Companion:
    """Another network of an objective, with an optimizer of its own; no regularizer acts on it.

    Args:
        objective: says what the network is, how it is fed and trained.
        device: where it trains.

    >>> from torch import nn
    >>> from selftune import Classification, Optimization
    >>> data = torch.ones(8, 2), torch.arange(8) % 2
    >>> objective = Classification(lambda: nn.Linear(2, 2), data, data, data, Optimization(batch_size=4))
    >>> companion = Companion(objective, torch.device("cpu"))
    >>> companion.descend(companion.outputs(data[0], {"inputs": data[0]}).sum())
    """

    def __init__(self, objective: NetworkObjective, device: torch.device) -> None:
        self.objective = objective
        self.network = objective.network().to(device)
        self.optimizer = objective.optimization.build(list(self.network.parameters()), self.network)

    def outputs(self, inputs: Any, batch: Any) -> Any:
        """Outputs on ``inputs`` in the place of those of the batch."""
        return self.objective.run(self.network, inputs, batch)

    @torch.no_grad()
    def predict(self, inputs: Any, batch: Any) -> Any:
        """Outputs in evaluation mode, without gradient."""
        with evaluating(self.network):
            return self.outputs(inputs, batch)

    def descend(self, loss: Float[Tensor, ""]) -> None:
        """One step of the optimizer."""
        self.optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimizer.step()

    def state_dict(self) -> dict[str, Any]:
        return {"network": state_of(self.network), "optimizer": self.optimizer.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        load_state(self.network, state["network"])
        self.optimizer.load_state_dict(state["optimizer"])
