"""Random numbers of data sets: people's transforms draw from the global generators of torch, Python and numpy."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from numpy.random import MT19937
from numpy.random.mtrand import get_bit_generator, set_bit_generator


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Within it, the global generators start from a seed, so that a batch is the same whenever it is drawn.

    Behind it they are what they were before.

    >>> import numpy as np
    >>> with seeded(3):
    ...     first = random.random(), np.random.rand(), float(torch.rand(()))
    >>> with seeded(3):
    ...     again = random.random(), np.random.rand(), float(torch.rand(()))
    >>> first == again
    True
    """
    before = torch.default_generator.get_state(), random.getstate(), get_bit_generator()
    torch.default_generator.manual_seed(seed)
    random.seed(seed)
    np.random.set_bit_generator(
        np.random.MT19937(seed)
    )  # far cheaper than to copy numpy's state and to put it back
    try:
        yield
    finally:
        torch.default_generator.set_state(before[0])
        random.setstate(before[1])
        set_bit_generator(before[2])
