"""Distance of the weights from where they started."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch

from selftune.registries.diagnostics import diagnostic
from selftune.registries.reference import Reference
from selftune.shapes import Float, Tensor

Weights = Sequence[Tensor] | Mapping[str, Tensor]


@diagnostic(
    family="supervision",
    reference=Reference(
        "Train Longer, Generalize Better: Closing the Generalization Gap in Large Batch Training of Neural"
        " Networks",
        "1705.08741",
    ),
    needs={"parameters": "parameters", "initial": "initial_parameters"},
)
@torch.no_grad()
def weight_distance(parameters: Weights, initial: Weights) -> Float[Tensor, ""]:
    """Euclidean distance between two sets of weights taken as one vector; carries no gradient.

    From the initialisation it grows like the logarithm of the steps while the learning rate is high; a slow
    curve signals too few updates.

    Args:
        parameters: a list of tensors, or tensors by name.
        initial: in the same order, or by the same names (more names are ignored).

    Raises:
        ValueError: if lists differ in length, or only one of the two is a mapping.

    Source: "Train Longer, Generalize Better: Closing the Generalization Gap in Large Batch Training of Neural
    Networks" (arXiv 1705.08741).

    >>> weight_distance([torch.tensor([3.0]), torch.tensor([4.0])], [torch.tensor([0.0]), torch.tensor([0.0])])
    tensor(5.)
    """
    if isinstance(parameters, Mapping) and isinstance(initial, Mapping):
        now, then = list(parameters.values()), [initial[name] for name in parameters]
    elif isinstance(parameters, Mapping) or isinstance(initial, Mapping):
        raise ValueError("parameters and initial must both be lists, or both be mappings by name.")
    else:
        now, then = list(parameters), list(initial)
    if len(now) != len(then):
        raise ValueError(f"{len(now)} parameters cannot be compared with {len(then)} initial ones.")
    norms = [torch.linalg.vector_norm(one - other) for one, other in zip(now, then, strict=True)]
    distance: Tensor = torch.linalg.vector_norm(torch.stack(norms))
    return distance
