"""Loss of accuracy on earlier tasks in class-incremental learning."""

from __future__ import annotations

import torch

from selftune.registries.diagnostics import diagnostic
from selftune.registries.reference import Reference
from selftune.shapes import Float, Tensor


@diagnostic(
    family="adaptation",
    reference=Reference("A Closer Look at Rehearsal-Free Continual Learning", "2203.17269"),
    better="min",
)
def global_forgetting(accuracy: Float[Tensor, "tasks tasks"], sizes: Float[Tensor, "tasks"]) -> Float[Tensor, ""]:
    """Mean over tasks, from the second on, of the accuracy lost on earlier ones, weighted by numbers of classes.

    With a single task it is zero; it is negative where old tasks have become better.

    Args:
        accuracy: row = after which task, column = on which task, predicting among the classes of the tasks up to
            that column. Entries above the diagonal are not read.
        sizes: number of classes of every task.

    Source: "A Closer Look at Rehearsal-Free Continual Learning" (arXiv 2203.17269).

    >>> global_forgetting(torch.tensor([[0.75, 0.0], [0.25, 1.0]]), torch.tensor([5, 5]))
    tensor(0.2500)
    """
    # above the diagonal may stand anything, even NaN
    earlier = torch.ones_like(accuracy, dtype=torch.bool).tril(-1)
    lost = (accuracy.diagonal() - accuracy).where(earlier, 0)
    sizes = sizes.to(accuracy)
    return (lost @ sizes / sizes.cumsum(dim=0)).sum() / max(1, len(sizes) - 1)
