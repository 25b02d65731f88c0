"""Continual evaluation: worst cases of the accuracies after every update."""

from __future__ import annotations

from itertools import pairwise
from typing import NamedTuple

import torch

from selftune.registries.diagnostics import diagnostic
from selftune.registries.reference import Reference
from selftune.shapes import Float, Int, Tensor


class ContinualEvaluation(NamedTuple):
    """What ``continual_evaluation`` returns, each of shape ().

    Attributes:
        average_accuracy: mean over tasks after the last update.
        forgetting: accuracy of earlier tasks lost since each ended.
        minimum_accuracy: lowest accuracy of earlier tasks at any update after each ended.
        worst_case_accuracy: that minimum and the last task's accuracy, averaged over tasks; a lower bound on the
            average accuracy.
        windowed_forgetting: largest drop of a task's accuracy within a window, averaged over tasks.
        windowed_plasticity: largest rise within a window.
        gap_depth: fall of old tasks' accuracies from a switch to the lowest point of the new task's training.
        gap_recovery: rise from that point to the end of the new task's training.
    """

    average_accuracy: Float[Tensor, ""]
    forgetting: Float[Tensor, ""]
    minimum_accuracy: Float[Tensor, ""]
    worst_case_accuracy: Float[Tensor, ""]
    windowed_forgetting: Float[Tensor, ""]
    windowed_plasticity: Float[Tensor, ""]
    gap_depth: Float[Tensor, ""]
    gap_recovery: Float[Tensor, ""]


@diagnostic(
    family="adaptation",
    reference=Reference("Continual evaluation for lifelong learning: Identifying the stability gap", "2205.13452"),
    needs={"accuracy": "stage_accuracies", "boundaries": "stage_boundaries"},
    results=ContinualEvaluation._fields,
    better={
        "average_accuracy": "max",
        "forgetting": "min",
        "minimum_accuracy": "max",
        "worst_case_accuracy": "max",
        "windowed_forgetting": "min",
        "gap_depth": "min",
    },
)
def continual_evaluation(
    accuracy: Float[Tensor, "steps tasks"], boundaries: Int[Tensor, "tasks+1"], window: int = 10
) -> ContinualEvaluation:
    """Stability and plasticity from the accuracies of all tasks after every update.

    Means over nothing (forgetting of a single task) are zero. Depth and recovery of the gap summarise what the
    paper shows as curves; their difference is what a switch loses for good.

    Args:
        accuracy: on held-out examples of every task, after every update.
        boundaries: task k is trained in the updates from ``boundaries[k]`` up to, not including,
            ``boundaries[k + 1]``. Tasks at the end that have not begun do not count.
        window: evaluations that a drop or a rise may span, at least 1.

    Raises:
        ValueError: if boundaries do not rise from 0 to the number of steps, or the window is below 1.

    Source: "Continual evaluation for lifelong learning: Identifying the stability gap" (arXiv 2205.13452).

    >>> accuracy = torch.tensor([[0.75, 0.0], [0.25, 0.5], [0.75, 1.0]])
    >>> measures = continual_evaluation(accuracy, torch.tensor([0, 1, 3]))
    >>> measures.average_accuracy, measures.minimum_accuracy, measures.gap_depth
    (tensor(0.8750), tensor(0.2500), tensor(0.5000))
    """
    steps, tasks = accuracy.shape
    ends = boundaries.tolist()
    while tasks > 1 and ends[-2:] == [steps, steps]:  # a task that has not begun
        tasks = tasks - 1
        ends = ends[:-1]
    accuracy = accuracy[:, :tasks]
    if len(ends) != tasks + 1 or ends[0] != 0 or ends[-1] != steps or ends != sorted(set(ends)):
        raise ValueError(f"boundaries of {tasks} tasks must rise from 0 to {steps}, got {ends}")
    if window < 1:
        raise ValueError(f"window must be at least 1, got {window}")
    final = accuracy[-1]
    at_ends = accuracy[[end - 1 for end in ends[1:]]]  # row k: after task k
    lowest = torch.stack([accuracy[a:b].amin(dim=0) for a, b in pairwise(ends)])
    forgotten = (at_ends.diagonal() - final)[:-1]
    lowest_since = torch.stack([lowest[i + 1 :, i].amin() for i in range(tasks - 1)]) if tasks > 1 else final[:0]
    minimum = _mean(lowest_since)
    after, old = torch.tril_indices(tasks, tasks, -1, device=accuracy.device)  # pairs of a switch and an old task
    started = torch.arange(steps, device=accuracy.device)[:, None] >= torch.tensor(
        ends[:-1], device=accuracy.device
    )
    return ContinualEvaluation(
        average_accuracy=final.mean(),
        forgetting=_mean(forgotten),
        minimum_accuracy=minimum,
        worst_case_accuracy=final[-1] / tasks + (1 - 1 / tasks) * minimum,
        windowed_forgetting=_largest_drop(accuracy, started, window).mean(),
        windowed_plasticity=_largest_drop(-accuracy, started, window).mean(),
        gap_depth=_mean(at_ends[after - 1, old] - lowest[after, old]),
        gap_recovery=_mean(at_ends[after, old] - lowest[after, old]),
    )


def _mean(values: Tensor) -> Tensor:
    """The mean, zero where there is nothing."""
    return values.sum() / max(1, values.numel())


def _largest_drop(curves: Tensor, started: Tensor, window: int) -> Float[Tensor, "tasks"]:
    """Of every curve the largest fall within a window that begins after the start, zero where it only rises."""
    beyond = curves.new_full((window, curves.shape[1]), torch.inf)
    following = torch.cat([curves[1:], beyond]).unfold(0, window, 1)[: len(curves), :, : window - 1]
    if window == 1:
        return curves.new_zeros(curves.shape[1])
    drops = curves - following.amin(dim=-1)
    return drops.masked_fill(~started, -torch.inf).amax(dim=0).clamp_min(0)
