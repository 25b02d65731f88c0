"""How far rounding alone can move a result: tolerances follow from the scale of what is compared.

Processors round differently (wider vectors add in another order, fused operations round once), so a test that
expects zero allows what rounding leaves, and no test compares with a number of its own that is close to eps.
"""

import torch


def rounding(scale=1.0, operations=100, dtype=torch.float64):
    """So many roundings, all in one direction, of numbers as large as ``scale``.

    >>> rounding(1.0, 4, torch.float32)
    4.76837158203125e-07
    """
    return operations * torch.finfo(dtype).eps * float(scale)


def squared_rounding(scale=1.0, terms=1, operations=100, dtype=torch.float64):
    """A sum of so many squares of numbers that would be zero without rounding."""
    return terms * rounding(scale, operations, dtype) ** 2
