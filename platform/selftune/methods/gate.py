"""Holds hyperparameters whose hypergradient cannot be told from zero, and lets them go when it can."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

from selftune.methods.drift_test import DriftTest
from selftune.shapes import Bool, Float, Tensor

LEAD = 0.5
"""So far, in unconstrained units, may the proposal be ahead of what is held: beyond, it would run past optima."""
CATCH_UP = 20
"""Hyper-steps in which what is let go covers about two thirds of the way that it was held back."""
MOST_SHOWN = 100
"""So many hyperparameters have a column of their evidence each; of more, only how many are held is shown."""
_MOST_NAMED = 5


class Gate:
    """Stands between an update rule and the hyperparameters.

    The rule moves a ``proposal``, as it would move the hyperparameters, up to ``LEAD`` ahead. A hyperparameter
    stays where it is until ``DriftTest`` refutes at the given level that its hypergradients have no drift. From
    then on it moves as the proposal does, and covers what lies between them, a share of it at every hyper-step.
    What has no effect is let go with a probability of at most the level, however long tuning goes on, as far as
    the assumptions of the test hold.

    Not for rules that begin their steps elsewhere than from the vector, such as ``OptimisticMirrorDescent``.

    Args:
        start: the unconstrained hyperparameters; kept, not copied.
        significance: level of the test of each hyperparameter, between 0 and 1.

    >>> u = torch.zeros(2)
    >>> gate = Gate(u, significance=0.05)
    >>> for step in range(200):
    ...     noise = (-1.0) ** (step // 8)
    ...     gate.see(torch.tensor([noise, noise - 2.0]))
    ...     gate.proposal += 0.01
    ...     gate.follow()
    >>> u[0].item(), gate.held.tolist()
    (0.0, [True, False])
    """

    def __init__(self, start: Float[Tensor, "n"], significance: float) -> None:
        self.values = start
        self.proposal = start.clone()
        self._behind = torch.zeros_like(start)
        self.held: Bool[Tensor, "n"] = torch.ones(len(start), dtype=torch.bool)
        self.significance = significance
        self._test = DriftTest(len(start))

    @property
    def evidence(self) -> Float[Tensor, "n"]:
        """Against no drift, since the start; a hyperparameter is let go when it comes to 1 / ``significance``."""
        return self._test.evidence

    def see(self, hypergradient: Float[Tensor, "n"]) -> None:
        """Takes a hypergradient, before the rule moves the proposal by it."""
        self._test.see(hypergradient.to(torch.float64))
        self.held &= self._test.evidence < 1 / self.significance
        self._behind = self.proposal - self.values

    def follow(self) -> None:
        """The rule has moved the proposal: what is let go goes along, and some of the way that it is behind."""
        ahead = (self.proposal - self.values).clamp(-LEAD, LEAD)
        self.proposal.copy_(torch.where(self.held, self.values + ahead, self.proposal))
        self.values.copy_(torch.where(self.held, self.values, self.proposal - (1 - 1 / CATCH_UP) * self._behind))

    def shown(self, names: Sequence[str]) -> dict[str, float]:
        """Diagnostics of a hyper-step: how many are held, and the evidence by the name of each."""
        found = {"held": float(self.held.sum())}
        if len(names) <= MOST_SHOWN:
            found |= {f"evidence/{name}": e for name, e in zip(names, self.evidence.tolist(), strict=True)}
        return found

    def sentence(self, names: Sequence[str]) -> str:
        """Which hyperparameters were held to the end, in words; empty where none was."""
        held = [name for name, is_held in zip(names, self.held.tolist(), strict=True) if is_held]
        if not held:
            return ""
        more = len(held) - _MOST_NAMED
        named = ", ".join(held[:_MOST_NAMED]) + (f" and {more} more" if more > 0 else "")
        return (
            f"{len(held)} of {len(names)} hyperparameters stayed at their start, because their hypergradients"
            f" could not be told from noise (significance {self.significance:g}): {named}"
        )

    def project(self, onto: Callable[[Float[Tensor, "n"]], Float[Tensor, "n"]]) -> None:
        """Takes values and proposal into a set; what is held moves only where the set leaves it no choice."""
        self.values.copy_(onto(self.values))
        self.proposal.copy_(onto(self.proposal))

    def state_dict(self) -> dict[str, Any]:
        """All that later steps depend on beside the values."""
        return {"proposal": self.proposal.clone(), "held": self.held.clone(), "test": self._test.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Goes on where the state was taken."""
        self.proposal.copy_(state["proposal"])
        self.held = state["held"].clone()
        self._test.load_state_dict(state["test"])
