"""Krum and multi-Krum: the workers' gradients with the closest neighbours."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from selftune.hyperparameters import Hyperparameter, Integer
from selftune.registries.reference import Reference
from selftune.regularization.decorators import aggregator
from selftune.shapes import Bool, Float, Tensor

_REFERENCE = Reference("Machine Learning with Adversaries: Byzantine Tolerant Gradient Descent", "1703.02757")
_FAULTY = Hyperparameter("faulty", Integer(0, 511), 1, online=False, smooth=False, shared=True, swept=False)


def _needed(faulty: int) -> int:
    return 2 * faulty + 3  # arXiv 1703.02757, Proposition 1


@aggregator(
    family="structure",
    reference=_REFERENCE,
    hyperparameters=[_FAULTY],
    workers=8,
    fewest=_needed,
    tolerates=lambda members, faulty: faulty,
)
def krum(gradients: Float[Tensor, "workers size"], *, faulty: int) -> Float[Tensor, "size"]:
    """The gradient with the smallest sum of squared distances to its ``workers - faulty - 2`` nearest neighbours.

    Of n >= 2 faulty + 3 workers, ``faulty`` may send anything: (n - 3) // 2 at most.

    Args:
        faulty: how many workers may be faulty; at least 0, with workers >= 2 faulty + 3.

    Raises:
        ValueError: if there are too few workers.

    Source: "Machine Learning with Adversaries: Byzantine Tolerant Gradient Descent" (arXiv 1703.02757, section 4).

    >>> krum(torch.tensor([[0.0], [1.0], [1.5], [3.0], [100.0]]), faulty=1)
    tensor([1.])
    """
    return multi_krum(gradients, faulty=faulty, selected=1)


@aggregator(
    family="structure",
    reference=_REFERENCE,
    hyperparameters=[
        _FAULTY,
        Hyperparameter("selected", Integer(0, 1022), 0, online=False, smooth=False, shared=True, swept=False),
    ],
    workers=8,
    fewest=_needed,
    tolerates=lambda members, faulty: faulty,
)
def multi_krum(
    gradients: Float[Tensor, "workers size"], *, faulty: int, selected: int | None = None
) -> Float[Tensor, "size"]:
    """Mean of the ``selected`` gradients with the smallest scores of ``krum``, scored once.

    Of n >= 2 faulty + 3 workers, ``faulty`` may send anything: (n - 3) // 2 at most.

    Args:
        faulty: how many workers may be faulty; at least 0, with workers >= 2 faulty + 3.
        selected: from 1 to workers - faulty - 2, which is the default; 0 in a study file.

    Raises:
        ValueError: if there are too few workers, or ``selected`` is out of range.

    Source: "Machine Learning with Adversaries: Byzantine Tolerant Gradient Descent" (arXiv 1703.02757, section 4).

    >>> multi_krum(torch.tensor([[0.0], [1.0], [1.5], [3.0], [100.0]]), faulty=1)
    tensor([1.2500])
    """
    workers, needed = len(gradients), _needed(faulty)
    if faulty < 0 or workers < needed:
        raise ValueError(
            f"Krum with faulty={faulty} needs faulty >= 0 and at least {needed} workers, got {workers}."
        )
    neighbours = workers - faulty - 2
    count = neighbours if selected is None else selected
    if not 1 <= count <= neighbours:
        raise ValueError(f"multi_krum needs selected from 1 to {neighbours} (workers - faulty - 2), got {count}.")
    everyone = torch.ones(workers, dtype=torch.bool, device=gradients.device)
    best = _scores(_squared_distances(gradients), everyone, neighbours).sort(stable=True).indices[:count]
    return gradients[best].mean(dim=0)


def _squared_distances(gradients: Float[Tensor, "workers size"]) -> Float[Tensor, "workers workers"]:
    # Through products of rows, equal rows far from the origin would not be at distance zero.
    workers = len(gradients)
    one, other = torch.triu_indices(workers, workers, offset=1, device=gradients.device)
    distances = gradients.new_zeros(workers, workers)
    distances[one, other] = F.pdist(gradients).square()
    return distances + distances.T


def _scores(
    distances: Float[Tensor, "workers workers"], pool: Bool[Tensor, "workers"], neighbours: int
) -> Float[Tensor, "workers"]:
    """Sum of every row's ``neighbours`` smallest distances to others in the pool; infinite outside the pool."""
    alone = torch.eye(len(distances), dtype=torch.bool, device=distances.device)
    others = distances.masked_fill(alone | ~pool, torch.inf)
    return others.sort(dim=1).values[:, :neighbours].sum(dim=1).masked_fill(~pool, torch.inf)
