"""What gives the batch of every training step."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from selftune.data.drawn import Drawn
from selftune.errors import SettingError
from selftune.lower_level.objective import Stage
from selftune.shapes import Int, Tensor
from selftune.training.sources.timetable import Timetable

BY_POSITION = (
    "must be tensors or a Dataset for this method, which takes examples by their position; give such data, or use"
    " self_tuning"
)


class BatchSource(ABC):
    """The batches of a run by the number of their step.

    Steps are asked for mostly in order. One step may be asked for again, and some steps ahead, before training
    goes on; ``forget`` says which will not be asked for any more.

    Attributes:
        examples: how many there are; None where nobody knows.
        stages: which examples are drawn for how many steps; empty where all are drawn all the time.
        timetable: of the stages.
    """

    examples: int | None = None

    def __init__(self, stages: Sequence[Stage] = ()) -> None:
        self.stages = tuple(stages)
        self.timetable = Timetable(stages)

    @abstractmethod
    def at(self, step: int) -> Drawn:
        """The batch of a step."""

    @abstractmethod
    def epoch(self, step: int) -> int:
        """Number of the epoch that a step belongs to, from 0; each stage has epochs of its own."""

    def epochs(self, step: int, steps: int) -> int:
        """How many epochs the stage of a step begins, in a run of so many steps."""
        end = self.timetable.end(step)
        last = (steps if end is None else min(steps, end)) - 1
        return self.epoch(max(step, last)) + 1

    def stage(self, step: int) -> int:
        """Number of the stage that a step belongs to, from 0; the last one goes on for ever."""
        return self.timetable.stage(step)

    @abstractmethod
    def once(self, size: int) -> Iterator[Any]:
        """All examples once, in their own order, in batches of a size where the source makes them itself."""

    def rows(self, index: Int[Tensor, "rows"]) -> Any:
        """The examples at these positions.

        Raises:
            SettingError: where examples have none.
        """
        raise SettingError("validation", BY_POSITION)

    def forget(self, before: int) -> None:  # noqa: B027
        """Says that the steps before this one will not be asked for any more."""

    def state_dict(self) -> dict[str, Any]:
        """What the batches of the steps to come depend on beside their numbers."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:  # noqa: B027
        """Goes on where ``state_dict`` was taken."""
