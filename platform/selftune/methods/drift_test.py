"""An anytime-valid test, coordinate by coordinate, of whether a stream of vectors has a drift."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from selftune.shapes import Float, Tensor

BLOCK = 8
"""Vectors of the stream that are added up before one bet is settled."""
_BETS = (0.5, 1.0, 2.0)  # on either sign, in units of the size that blocks had so far
_SHARE = 0.01  # of the capital, dealt out anew after every block, so that bets can follow a sign that changes
_MOST = 1e6  # capital beyond it is given away, so that what ended long ago is forgotten in a few blocks
_MEMORY = 200  # blocks over which the correlation is averaged
_SIZES = 20  # blocks over which their size is averaged
_MOST_CORRELATED = 0.9  # what is taken for noise at most; more than that is a drift
_PRIOR, _PRIOR_BLOCKS = 0.8, 16.0  # correlation that is assumed at first, and so many blocks that it counts for

_STATE = ("_sum", "_added", "_blocks", "_last", "_mean", "_variance", "_covariance", "_size", "_capital")


class DriftTest:
    """Bets against the hypothesis that a stream has no drift; the capital won is the evidence against it.

    Sums of ``BLOCK`` vectors are what is bet on. From each, the part that the one before predicts is taken away
    (the correlation of neighbours, estimated from the past and corrected upwards for its bias). What is left, x,
    is divided by the size that it had so far, and a capital of 1, dealt among bets a on either sign, is multiplied
    by ``exp(a x) / cosh(a x)``. If x is as likely as -x, given the past, no strategy wins on average: the capital
    is a nonnegative martingale from 1, and the probability that it ever reaches 1 / level is at most the level,
    however long one looks (Ville's inequality). Then neither moments nor a constant variance are needed.

    So what it assumes is that, without a drift, blocks are symmetric about what the one before predicts. It holds
    exactly for independent noise that is symmetric, whatever its tails, and nearly where correlation falls by 0.6
    or more from block to block. Noise that stays on one side for many blocks counts as a drift.

    Source: the e-test of symmetry of "Nonparametric e-tests of symmetry" (arXiv 2208.08925, Fisher's), which is
    larger than the exponential supermartingale with ``exp(-a^2 x^2 / 2)`` in the place of 1 / cosh, as "Admissible
    anytime-valid sequential inference must rely on nonnegative martingales" (arXiv 2009.03167) shows. Dealing out
    a share anew keeps it a martingale, since the deal is known before the next bet. Blocks, and prediction from
    the block before, are ours.

    Args:
        coordinates: of every vector.

    Memory and time are a few numbers per coordinate and vector.

    >>> test = DriftTest(2)
    >>> for step in range(100):
    ...     test.see(torch.tensor([(-1.0) ** (step // 8), 1.0]))
    >>> (test.evidence > 20).tolist()
    [False, True]
    """

    def __init__(self, coordinates: int) -> None:
        half = torch.tensor(_BETS, dtype=torch.float64)
        self._bets = torch.cat([torch.zeros(1, dtype=torch.float64), half, -half])
        zero = torch.zeros(coordinates, dtype=torch.float64)
        self._sum, self._added, self._blocks = zero.clone(), 0, 0
        self._last, self._mean = zero.clone(), zero.clone()
        self._variance, self._covariance, self._size = zero.clone(), zero.clone(), zero.clone()
        self._capital = self._start().expand(coordinates, -1).clone()

    def _start(self) -> Float[Tensor, "bets"]:
        return torch.full_like(self._bets, 1 / len(self._bets))

    @property
    def evidence(self) -> Float[Tensor, "coordinates"]:
        """The capital, 1 at the start. Whenever it is 1 / level or more, there is a drift, at that level."""
        return self._capital.sum(dim=1)

    def see(self, vector: Float[Tensor, "coordinates"]) -> None:
        """Takes the next vector of the stream."""
        self._sum += vector
        self._added += 1
        if self._added == BLOCK:
            block, self._sum, self._added = self._sum, torch.zeros_like(self._sum), 0
            if self._blocks:
                self._bet(block - self._correlation() * self._last)
            self._learn(block)

    def _bet(self, surprise: Float[Tensor, "coordinates"]) -> None:
        known = self._size > 0
        x = torch.where(known, surprise / self._size.sqrt().where(known, torch.ones_like(surprise)), 0.0)
        won = 2 * torch.sigmoid(2 * self._bets * x[:, None])  # exp(a x) / cosh(a x)
        self._capital = self._capital * won
        total = self.evidence[:, None]
        self._capital = (1 - _SHARE) * self._capital + _SHARE * total * self._start()
        self._capital *= (_MOST / total).clamp(max=1.0)
        self._size += max(1 / self._blocks, 1 / _SIZES) * (surprise.square() - self._size)

    def _correlation(self) -> Float[Tensor, "coordinates"]:
        """Of neighbouring blocks, from the past; estimates from n blocks are low by (1 + 3 correlation) / n."""
        n = min(self._blocks, _MEMORY)
        known = self._variance > 0
        found = torch.where(
            known, self._covariance / self._variance.where(known, torch.ones_like(self._variance)), 0.0
        )
        return (((n + 3) * found + 1 + _PRIOR_BLOCKS * _PRIOR) / (n + _PRIOR_BLOCKS)).clamp(0, _MOST_CORRELATED)

    def _learn(self, block: Float[Tensor, "coordinates"]) -> None:
        self._blocks += 1
        rate = max(1 / self._blocks, 1 / _MEMORY)
        self._mean += rate * (block - self._mean)
        now, before = block - self._mean, self._last - self._mean
        self._variance += rate * (now.square() - self._variance)
        if self._blocks > 1:
            self._covariance += max(1 / (self._blocks - 1), 1 / _MEMORY) * (now * before - self._covariance)
        self._last = block

    def state_dict(self) -> dict[str, Any]:
        """All that later evidence depends on."""
        state = {name: getattr(self, name) for name in _STATE}
        return {name: value.clone() if isinstance(value, Tensor) else value for name, value in state.items()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Goes on where the state was taken."""
        for name in _STATE:
            value = state[name]
            setattr(self, name, value.clone() if isinstance(value, Tensor) else value)
