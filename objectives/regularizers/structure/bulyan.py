"""Bulyan: Krum's choice of workers, then a trimmed mean around the median of the chosen."""

from __future__ import annotations

import torch
from selftune.objectives.mathematics.sorted_rows import sorted_rows
from selftune.objectives.regularizers.structure.krum import _scores, _squared_distances

from selftune.hyperparameters import Hyperparameter, Integer
from selftune.registries.reference import Reference
from selftune.regularization.decorators import aggregator
from selftune.shapes import Float, Tensor


@aggregator(
    family="structure",
    reference=Reference("The Hidden Vulnerability of Distributed Learning in Byzantium", "1802.07927"),
    hyperparameters=[
        Hyperparameter("faulty", Integer(0, 511), 1, online=False, smooth=False, shared=True, swept=False)
    ],
    workers=8,
    fewest=lambda faulty: 4 * faulty + 3,
    tolerates=lambda members, faulty: faulty,
)
def bulyan(gradients: Float[Tensor, "workers size"], *, faulty: int) -> Float[Tensor, "size"]:
    """Mean per coordinate of the values closest to the median among the gradients that Krum picks one by one.

    ``workers - 2 faulty`` gradients are picked, and ``workers - 4 faulty`` of their values averaged. The order of
    the workers has no influence: of equal scores, the gradient closest to the whole pool is picked, and of values
    equally close to the median, the smaller one counts.

    Of n >= 4 faulty + 3 workers, ``faulty`` may send anything: (n - 3) // 4 at most.

    Args:
        faulty: how many workers may be faulty; at least 0, with workers >= 4 faulty + 3; 0 gives the mean.

    Raises:
        ValueError: if there are too few workers.

    Source: "The Hidden Vulnerability of Distributed Learning in Byzantium" (arXiv 1802.07927, section 4).

    >>> bulyan(torch.tensor([[0.0], [1.0], [2.0], [3.0], [5.0], [6.0], [100.0]]), faulty=1)
    tensor([2.])
    """
    workers = len(gradients)
    if faulty < 0 or workers < 4 * faulty + 3:
        raise ValueError(
            f"bulyan with faulty={faulty} needs faulty >= 0 and at least {4 * faulty + 3} workers, got {workers}."
        )
    distances = _squared_distances(gradients)
    pool = torch.ones(workers, dtype=torch.bool, device=gradients.device)
    picked = []
    for left in range(workers, 2 * faulty, -1):
        neighbours = min(max(left - faulty - 2, 1), left - 1)
        scores = _scores(distances, pool, neighbours)
        # With one neighbour, the two gradients closest to each other always have equal scores.
        totals = _scores(distances, pool, left - 1)
        winner = totals.masked_fill(scores > scores.amin(), torch.inf).argmin(dim=0, keepdim=True)
        pool = pool.scatter(0, winner, False)
        picked.append(winner)

    # Sorted, so that ties do not depend on the order in which they were picked.
    chosen = sorted_rows(gradients[torch.cat(picked)])
    count = len(chosen)
    median = torch.stack(chosen[(count - 1) // 2 : count // 2 + 1]).mean(dim=0)
    # The values closest to the median lie side by side: they move up while the lowest of them is farther from it
    # than the next one above.
    width = count - 2 * faulty
    closest = chosen[:width]
    for low in range(2 * faulty):
        farther = (chosen[low] - median).abs() > (chosen[low + width] - median).abs()
        closest[low % width] = torch.where(farther, chosen[low + width], closest[low % width])
    return torch.stack(closest).mean(dim=0)
