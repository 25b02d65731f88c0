"""An exponential moving average of weights during training."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch

from selftune.networks.precision import widened
from selftune.networks.sharded_weights import own_part
from selftune.shapes import Tensor


class WeightAverage:
    """The average of a network's trained weights: after a step, decay * average + (1 - decay) * weights.

    It begins with the weights of the first step, as ``torch.optim.swa_utils.AveragedModel`` does with
    ``get_ema_multi_avg_fn(decay)`` and ``use_buffers=False``. Of weights in half precision it is in float32.

    Args:
        weights: by name; those in use, which training moves.
        decay: above 0 and below 1.

    Source: "Acceleration of Stochastic Approximation by Averaging", Polyak and Juditsky, 1992; with exponential
    weights, "Mean teachers are better role models" (arXiv 1703.01780).

    >>> weight = torch.zeros(1)
    >>> average = WeightAverage({"weight": weight}, 0.75)
    >>> for value in (4.0, 8.0):
    ...     _ = weight.fill_(value)
    ...     average.update()
    >>> with average.in_place():
    ...     print(weight)
    tensor([5.])
    >>> weight
    tensor([8.])
    """

    def __init__(self, weights: Mapping[str, Tensor], decay: float) -> None:
        self._weights = dict(weights)
        self.decay = decay
        self._average: dict[str, Tensor] | None = None

    @property
    def _own(self) -> dict[str, Tensor]:
        """What this process holds of the weights."""
        return {name: own_part(weight).detach() for name, weight in self._weights.items()}

    @torch.no_grad()
    def update(self) -> None:
        """Takes in the weights as they are now."""
        if self._average is None:
            self._average = {name: widened(weight).clone() for name, weight in self._own.items()}
            return
        now = [widened(weight) for weight in self._own.values()]
        torch._foreach_lerp_(list(self._average.values()), now, 1 - self.decay)

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """Within it the network has the average for its weights; without a step so far, nothing changes."""
        if self._average is None:
            yield
            return
        with torch.no_grad():
            before = [weight.clone() for weight in self._own.values()]
            for name, weight in self._own.items():
                weight.copy_(self._average[name])
        try:
            yield
        finally:
            with torch.no_grad():
                torch._foreach_copy_(list(self._own.values()), before)

    def state_dict(self) -> dict[str, Any]:
        return {"average": self._average}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        average = state["average"]
        self._average = average and {
            name: tensor.to(self._weights[name].device, copy=True) for name, tensor in average.items()
        }
