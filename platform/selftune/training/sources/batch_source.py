"""What gives the batch of every training step."""

from __future__ import annotations

import bisect
import itertools
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

from selftune.drawn import Drawn
from selftune.objective import Stage


class BatchSource(ABC):
    """The batches of a run by the number of their step.

    Steps are asked for mostly in order. One step may be asked for again, and some steps ahead, before training
    goes on; ``forget`` says which will not be asked for any more.

    Attributes:
        examples: how many there are; None where nobody knows.
        stages: which examples are drawn for how many steps; empty where all are drawn all the time.
    """

    examples: int | None = None

    def __init__(self, stages: Sequence[Stage] = ()) -> None:
        self.stages = tuple(stages)
        self._ends = list(itertools.accumulate(stage.steps for stage in stages))

    @abstractmethod
    def at(self, step: int) -> Drawn:
        """The batch of a step."""

    @abstractmethod
    def epoch(self, step: int) -> int:
        """Number of the epoch that a step belongs to, from 0; each stage has epochs of its own."""

    def epochs(self, step: int, steps: int) -> int:
        """How many epochs the stage of a step begins, in a run of so many steps."""
        stage = self.stage(step)
        end = min(steps, self._ends[stage]) if stage + 1 < len(self._ends) else steps
        return self.epoch(max(step, end - 1)) + 1

    def stage(self, step: int) -> int:
        """Number of the stage that a step belongs to, from 0; the last one goes on for ever."""
        return min(bisect.bisect_right(self._ends, step), max(0, len(self._ends) - 1))

    def since(self, step: int) -> tuple[int, int]:
        """The stage of a step, and the steps of it that came before."""
        if not self.stages:
            return 0, step
        stage = self.stage(step)
        return stage, step - self._ends[stage] + self.stages[stage].steps

    def forget(self, before: int) -> None:  # noqa: B027
        """Says that the steps before this one will not be asked for any more."""

    def state_dict(self) -> dict[str, Any]:
        """What the batches of the steps to come depend on beside their numbers."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:  # noqa: B027
        """Goes on where ``state_dict`` was taken."""
