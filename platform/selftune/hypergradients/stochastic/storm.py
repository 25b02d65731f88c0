"""STORM: momentum that corrects its memory for the step since the last gradient."""

from __future__ import annotations

from typing import Any

from selftune.errors import SettingError
from selftune.shapes import Float, Tensor


class Storm:
    """A gradient estimate d = G(new) + (1 - eta)(d - G(old)), both gradients on the same sample; at first d = G.

    Plain momentum averages gradients of points left behind; the difference G(new) - G(old) carries that average
    to the point of today, so that its variance falls with eta and with the length of the steps.

    Args:
        eta: in (0, 1], the weight of the newest gradient; 1 keeps no memory: plain stochastic gradients.

    Raises:
        SettingError: if eta is outside (0, 1].

    Source: "Momentum-Based Variance Reduction in Non-Convex SGD" (arXiv 1905.10018), algorithm 1, with a
    constant eta.

    >>> import torch
    >>> storm = Storm(eta=0.5)
    >>> storm.update(torch.tensor([4.0]))
    tensor([4.])
    >>> storm.update(new=torch.tensor([1.0]), old=torch.tensor([2.0]))  # 1 + (4 - 2) / 2
    tensor([2.])
    """

    def __init__(self, eta: float) -> None:
        if not 0 < eta <= 1:
            raise SettingError("eta", f"must be in (0, 1], got {eta}")
        self.eta = eta
        self.direction: Tensor | None = None

    def update(self, new: Float[Tensor, "*shape"], old: Float[Tensor, "*shape"] | None = None) -> Tensor:
        """The next estimate, of the gradients' shape.

        Args:
            new: gradient at the point of today.
            old: gradient at the point of the last call, on the sample of ``new``; not read on the first call.

        Raises:
            SettingError: if ``old`` is missing on a later call.
        """
        if self.direction is None:
            self.direction = new.detach().clone()
            return self.direction
        if old is None:
            raise SettingError(
                "old", "is missing; give the gradient at the last point on the sample of the new one"
            )
        self.direction = new.detach() + (1 - self.eta) * (self.direction - old.detach())
        return self.direction

    def state_dict(self) -> dict[str, Any]:
        """The estimate, None before the first call; eta is a setting."""
        return {"direction": self.direction}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continues from ``state_dict``."""
        self.direction = state["direction"]
