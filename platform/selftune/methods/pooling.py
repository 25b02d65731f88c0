"""Pools: hyperparameters that are alike, units of a layer or classes, move together as well as one by one."""

from __future__ import annotations

from functools import cached_property

import torch

from selftune.hyperparameters import Space
from selftune.shapes import Float, Int, Tensor


class Pools:
    """One more number per pool, which is added to all its members, and which the update rule moves beside them.

    The gradient in it is the sum of its members'. A rule that divides gradients by their size (rmsprop, adam)
    moves a member whose hypergradients are mostly noise by steps of random signs. The noise of a sum of many is
    smaller beside what they have in common: what is wrong with a whole layer is mended as fast as by one strength.

    Args:
        space: whose hyperparameters say which of their parts are alike.
        share: of a step that a member of a pool takes on its own.

    >>> from selftune.hyperparameters import Hyperparameter, Positive
    >>> units = Hyperparameter("decay", Positive(), (0.1,) * 3, ("a.0", "a.1", "b.0"), tuned=True, pools=(2, 1))
    >>> pools = Pools(Space([units]), share=0.25)
    >>> pools.gradient(torch.tensor([1.0, 2.0, 3.0]))
    tensor([3.])
    """

    def __init__(self, space: Space, share: float) -> None:
        self.space = space
        self.share = share
        self.moves = torch.zeros(int(self._of_columns.max()) + 1 if len(self._of_columns) else 0)
        """How far each pool is to go; zero between hyper-steps."""

    @cached_property
    def _of_columns(self) -> Int[Tensor, "n"]:
        """The pool of every hyperparameter; -1 for those that are in none: a pool has two members at least."""
        pools: list[int] = []
        number = 0
        for hyperparameter in self.space.tuned:
            sizes = hyperparameter.pools or (hyperparameter.size,)
            for size in sizes:
                is_pool = size > 1 and bool(hyperparameter.pools)
                pools += [number if is_pool else -1] * size
                number += is_pool
        return torch.tensor(pools, dtype=torch.int64)

    def __len__(self) -> int:
        return len(self.moves)

    def gradient(self, hypergradient: Float[Tensor, "n"]) -> Float[Tensor, "pools"]:
        """The sum over each pool's members."""
        index = self._of_columns
        pooled = index >= 0
        return torch.zeros_like(self.moves).index_add(0, index[pooled], hypergradient[pooled].to(self.moves))

    def share_out(self, vector: Float[Tensor, "n"], before: Float[Tensor, "n"]) -> None:
        """Completes a step of the rule: members take a share of theirs, and go as far as their pool is to go.

        Args:
            vector: after the rule's step; changed in place.
            before: the same before it.
        """
        index = self._of_columns
        moved = before + self.share * (vector - before) + self.moves[index.clamp(min=0)].to(vector)
        vector.copy_(torch.where(index >= 0, moved, vector))
        self.moves.zero_()
