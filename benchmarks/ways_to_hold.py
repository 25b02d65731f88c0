"""Ways to hold hyperparameters that cannot be told from noise: the one that was taken, and others to compare."""

from __future__ import annotations

import math

import torch

from selftune.methods.gate import CATCH_UP, Gate
from selftune.shapes import Float, Tensor

LEVEL = 0.05
NO_TEST, CAUGHT_UP = "no test", "held until found, then catching up"


class LetGo(Gate):
    """Nothing is caught up: what is let go begins to move where it was held."""

    def follow(self) -> None:
        self._behind = self._behind * (CATCH_UP / (CATCH_UP - 1))
        super().follow()


class HoweverFar(Gate):
    """The proposal goes as far ahead as it likes."""

    def follow(self) -> None:
        self.values.copy_(torch.where(self.held, self.values, self.proposal - (1 - 1 / CATCH_UP) * self._behind))


class HeldAgain(Gate):
    """What is let go is held again when its evidence has fallen to where it began."""

    def see(self, hypergradient: Float[Tensor, "n"]) -> None:
        was_held = self.held.clone()
        super().see(hypergradient)
        self._test._capital *= (20 / self.significance / self.evidence[:, None]).clamp(max=1.0)
        again = ~was_held & (self.evidence <= 1)
        self._test._capital[again] = 1 / self._test._capital.shape[1]
        self.held |= again


class Share(Gate):
    """Nothing is held wholly: a share of the way is taken that grows with the logarithm of the evidence."""

    def __init__(self, start: Float[Tensor, "n"], significance: float) -> None:
        super().__init__(start, significance)
        self._start, self._share = start.clone(), torch.zeros_like(start)

    def follow(self) -> None:
        share = (self.evidence.log() / -math.log(self.significance)).clamp(0, 1).to(self._share)
        self._share = torch.maximum(self._share, share)
        aim = self._start + self._share * (self.proposal - self._start)
        self.values.copy_(self.values + (aim - self.values) / CATCH_UP)


WAYS: dict[str, type[Gate] | None] = {
    NO_TEST: None,
    CAUGHT_UP: Gate,
    "the same, however far it is behind": HoweverFar,
    "held until found, then from there": LetGo,
    "held again": HeldAgain,
    "a share by the evidence": Share,
}
