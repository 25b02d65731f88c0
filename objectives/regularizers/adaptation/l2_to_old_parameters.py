"""Parameters close to old ones."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from selftune.shapes import Float, Tensor


def l2_to_old_parameters(
    parameters: Sequence[Float[Tensor, "*shape"]], old_parameters: Sequence[Float[Tensor, "*shape"]]
) -> Float[Tensor, ""]:
    """Sum of the squared changes of the parameters since the old ones, which get no gradient; no factor one half.

    Rows that a parameter has gained since (new classes of a head) are left out.

    Source: "A Closer Look at Rehearsal-Free Continual Learning" (arXiv 2203.17269).

    >>> l2_to_old_parameters([torch.tensor([3.0, 4.0])], [torch.zeros(2)])
    tensor(25.)
    """
    terms = []
    for new, old in zip(parameters, old_parameters, strict=True):
        kept = new[: len(old)] if new.shape != old.shape else new
        terms.append((kept - old.detach()).square().sum())
    return torch.stack(terms).sum()
