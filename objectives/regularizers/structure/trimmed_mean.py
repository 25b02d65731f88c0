"""Coordinate-wise robust means of the workers' gradients: the trimmed mean and the median."""

from __future__ import annotations

import torch
from selftune.objectives.mathematics.sorted_rows import sorted_rows

from selftune.hyperparameters import Hyperparameter, Integer
from selftune.registries.reference import Reference
from selftune.regularization.decorators import aggregator
from selftune.shapes import Float, Tensor

_REFERENCE = Reference("Byzantine-Robust Distributed Learning: Towards Optimal Statistical Rates", "1803.01498")


@aggregator(
    family="structure",
    reference=_REFERENCE,
    hyperparameters=[
        Hyperparameter("faulty", Integer(0, 511), 1, online=False, smooth=False, shared=True, swept=False)
    ],
    workers=8,
    fewest=lambda faulty: 2 * faulty + 1,
    tolerates=lambda members, faulty: faulty,
    coordinatewise=True,
)
def trimmed_mean(gradients: Float[Tensor, "workers size"], *, faulty: int) -> Float[Tensor, "size"]:
    """Mean per coordinate without its ``faulty`` smallest and ``faulty`` largest values.

    Of n > 2 faulty workers, ``faulty`` may send anything: (n - 1) // 2 at most.

    Args:
        faulty: how many workers may be faulty, with 0 <= faulty < workers / 2; 0 gives the mean.

    Raises:
        ValueError: if too few workers would be left.

    Source: "Byzantine-Robust Distributed Learning: Towards Optimal Statistical Rates" (arXiv 1803.01498,
    Definition 2).

    >>> trimmed_mean(torch.tensor([[0.0], [1.0], [3.0], [100.0]]), faulty=1)
    tensor([2.])
    """
    workers = len(gradients)
    if not 0 <= 2 * faulty < workers:
        raise ValueError(
            f"A trimmed mean with faulty={faulty} needs faulty >= 0 and over {2 * faulty} workers, got {workers}."
        )
    return torch.stack(sorted_rows(gradients)[faulty : workers - faulty]).mean(dim=0)


@aggregator(
    family="structure",
    reference=_REFERENCE,
    workers=8,
    tolerates=lambda members, faulty: (members - 1) // 2,
    coordinatewise=True,
)
def coordinate_median(gradients: Float[Tensor, "workers size"]) -> Float[Tensor, "size"]:
    """Median per coordinate; for an even number of workers the mean of the two middle values.

    Of n workers, (n - 1) // 2 may send anything.

    It lies between honest values as long as fewer than half of the workers are faulty.

    Source: "Byzantine-Robust Distributed Learning: Towards Optimal Statistical Rates" (arXiv 1803.01498,
    Definition 1).

    >>> coordinate_median(torch.tensor([[0.0], [1.0], [3.0], [100.0]]))
    tensor([2.])
    """
    return trimmed_mean(gradients, faulty=(len(gradients) - 1) // 2)
