"""Random numbers of data sets: people's transforms draw from the global generators of torch, Python and numpy."""

from __future__ import annotations

import random

import numpy as np
import torch
from numpy.random import MT19937
from numpy.random.mtrand import get_bit_generator, set_bit_generator

_SPARE = MT19937(0)  # 0.3 ms to make, 2 microseconds to seed
_guards: list[guarded] = []


class guarded:
    """A context behind which the global generators are what they were before.

    Within it, ``seeded`` need not see to that for every batch.

    >>> random.seed(1)
    >>> with guarded(), seeded(3):
    ...     _ = random.random()
    >>> left = random.random()
    >>> random.seed(1)
    >>> random.random() == left
    True
    """

    def __enter__(self) -> None:
        self._before = torch.default_generator.get_state(), random.getstate(), get_bit_generator()
        _guards.append(self)

    def __exit__(self, *_: object) -> None:
        _guards.remove(self)
        torch.default_generator.set_state(self._before[0])
        random.setstate(self._before[1])
        set_bit_generator(self._before[2])


class seeded:
    """A context in which the global generators start from a seed: a batch is the same whenever it is drawn.

    Behind it, or behind the ``guarded`` that it is in, they are what they were before.

    >>> with seeded(3):
    ...     first = random.random(), np.random.rand(), float(torch.rand(()))
    >>> with seeded(3):
    ...     again = random.random(), np.random.rand(), float(torch.rand(()))
    >>> first == again
    True
    """

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._guard = None if _guards else guarded()

    def __enter__(self) -> None:
        if self._guard is not None:
            self._guard.__enter__()
        torch.default_generator.manual_seed(self._seed)
        random.seed(self._seed)
        set_bit_generator(_SPARE)  # far cheaper than to copy numpy's state and to put it back
        np.random.seed(self._seed % 2**32)

    def __exit__(self, *_: object) -> None:
        if self._guard is not None:
            self._guard.__exit__()
