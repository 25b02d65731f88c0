"""What ``tune`` found for a smooth problem, and what it can show of it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from selftune.hyperparameters import Space
from selftune.lower_level.smooth_objective import SmoothObjective
from selftune.lower_level.smooth_problem import SmoothProblem
from selftune.methods import HyperStep, Report
from selftune.methods.reports import SolvingFinished
from selftune.shapes import Tensor
from selftune.studies.tuning_result import TuningResult
from selftune.training.method_record import stop_reason

_MEASURES = ("training_", "validation_", "test_")


@dataclass(frozen=True, repr=False)
class SmoothResult(TuningResult):
    """What ``tune`` found for a smooth problem; it shows itself as a table, see ``Result``.

    Attributes:
        hyperparameters: the values at the end, by name, with ``[part]`` where there are parts.
        values: the same as tensors by name, in the shape of their start.
        parameters: the lower level's solution there, on the CPU.
        trajectory: every accepted step, in order, each with its certificate.
        metrics: training and validation loss, and what else the problem measures.
        stopped: why the method was done, see ``InexactLineSearch``; ``stationary`` and ``pinned`` are
            proven, all else is not.
    """

    hyperparameters: Mapping[str, float]
    values: Mapping[str, Tensor]
    parameters: Mapping[str, Tensor]
    trajectory: Sequence[HyperStep]
    metrics: Mapping[str, float]
    stopped: str

    _unit = "upper step"

    def _at(self, step: HyperStep) -> int:
        return step.number + 1

    def _best(self) -> tuple[int, str, float] | None:
        """None where the end is the best."""
        best, end = super()._best(), self.metrics.get("validation_loss", math.inf)
        return None if best is None or end <= best[2] else best

    def _sentences(self) -> Iterator[str]:
        yield from super()._sentences()
        yield f"ended because {stop_reason(self.stopped)}"

    @property
    def certified(self) -> bool:
        """Whether the end is proven to be stationary."""
        return self.stopped in ("stationary", "pinned")


def smooth_result(
    objective: SmoothObjective, space: Space, report: Report, taken: Sequence[HyperStep], stopped: str
) -> SmoothResult:
    """What the last report of a trainer says.

    Args:
        taken: all accepted steps.
        stopped: why the method was done.
    """
    assert isinstance(report, SolvingFinished)
    u = report.unconstrained.double()
    values = space.values(u)
    if isinstance(objective, SmoothProblem):
        values = objective.shaped(values)
    return SmoothResult(
        hyperparameters=dict(zip(space.names, space.constrain(u).tolist(), strict=True)),
        values={h.name: values[h.name] for h in space.tuned},
        parameters=dict(report.parameters),
        trajectory=taken,
        metrics={name: value for name, value in report.metrics.items() if name.startswith(_MEASURES)},
        stopped=stopped,
    )
