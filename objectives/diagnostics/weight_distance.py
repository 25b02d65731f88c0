"""Distance of the weights from where they started."""

from __future__ import annotations

import torch

from selftune.shapes import Float, Tensor


@torch.no_grad()
def weight_distance(parameters: list[Tensor], initial: list[Tensor]) -> Float[Tensor, ""]:
    """Euclidean distance between two lists of weights taken as one vector; carries no gradient.

    From the initialisation it grows like the logarithm of the steps while the learning rate is high; a slow
    curve signals too few updates.

    Raises:
        ValueError: if the lists differ in length.

    Source: "Train Longer, Generalize Better: Closing the Generalization Gap in Large Batch Training of Neural
    Networks" (arXiv 1705.08741).

    >>> weight_distance([torch.tensor([3.0]), torch.tensor([4.0])], [torch.tensor([0.0]), torch.tensor([0.0])])
    tensor(5.)
    """
    if len(parameters) != len(initial):
        raise ValueError(f"{len(parameters)} parameters cannot be compared with {len(initial)} initial ones.")
    norms = [torch.linalg.vector_norm(now - then) for now, then in zip(parameters, initial, strict=True)]
    return torch.linalg.vector_norm(torch.stack(norms))
