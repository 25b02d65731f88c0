"""Ask and tell: what every bilevel method, runner and trainer agree on.

A method is a state machine without input or output. ``ask`` returns work orders for idle members of the
team, ``tell`` takes one report. Whoever moves orders and reports (the in-process runner, Ray Tune, a
simulator) never looks inside the method.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from selftune.errors import SettingError
from selftune.hyperparameters import Space
from selftune.methods.reports import Finished, Report
from selftune.methods.work_orders import WorkOrder
from selftune.shapes import Float, Tensor
from selftune.storage.state_tree import record


@record
@dataclass(frozen=True)
class Fault:
    """Why a trainer was outvoted at a hyper-step.

    Attributes:
        reason: what was wrong with its report.
        first: whether it was so for the first time.
        remark: what becomes of it, where something does.
        final: whether it is out for good.
    """

    reason: str
    first: bool = False
    remark: str = ""
    final: bool = False

    def sentence(self, trainer: int, hyper_step: int) -> str:
        """All of it in words.

        >>> Fault("its hypergradient is not finite", remark="excluded for good").sentence(2, hyper_step=7)
        'trainer 2 was outvoted at hyper-step 7: its hypergradient is not finite; it is excluded for good'
        """
        what = f"trainer {trainer} was outvoted at hyper-step {hyper_step}: {self.reason}"
        return f"{what}; it is {self.remark}" if self.remark else what


@record
@dataclass(frozen=True)
class HyperStep:
    """One row of the trajectory: the hyperparameters that a hyper-step *started* from, and what was seen there.

    ``hyperparameters`` are constrained values, ``scale`` the standard deviations of the perturbation in the
    unconstrained space, ``hypergradient`` the team's, its average unless the study names another aggregator, with
    respect to the unconstrained vector, zero where the team could not agree on one and did not move; the columns
    are those of ``Space.names``. ``seconds`` counts the trainers' time since the start of the study.
    ``certificate`` is what the method can prove or measure about the step, by name; ``diagnostics`` is what was
    measured on validation data beside the losses, the team's average. ``faults`` says which trainers were
    outvoted; losses and diagnostics are those of the others.
    """

    number: int
    training_step: int
    seconds: float
    training_loss: float
    validation_loss: float
    hyperparameters: Float[Tensor, "hyperparameters"]
    scale: Float[Tensor, "hyperparameters"]
    hypergradient: Float[Tensor, "hyperparameters"]
    certificate: Mapping[str, float] = field(default_factory=dict)
    diagnostics: Mapping[str, float] = field(default_factory=dict)
    faults: Mapping[int, Fault] = field(default_factory=dict)


class Method(ABC):
    """A bilevel method as a state machine: ``join``, then ``ask`` and ``tell`` until ``done``.

    The whole state is one dictionary of numbers, strings, lists and tensors (``state_dict``), so that a method
    can be stopped anywhere and go on elsewhere. No method reads a clock or draws from a global generator.

    ``stateful`` says whether a report depends on the orders that its trainer did before. If so, a trainer that
    restarts is made to do again what it lost. If not, all that a report depends on is its order and the warm start
    that the order names; a restarted trainer gets its one order again, cold where the warm start is gone.

    ``message`` says what there is to say about the end; above all why nothing came of it.
    """

    stateful: ClassVar[bool] = True
    message: str = ""

    def mistakes(self, space: Space) -> Iterator[SettingError]:
        """Why the method cannot tune these hyperparameters, or not with its settings.

        Keys are those of a study file: ``regularizers.NAME`` and ``method.SETTING``.
        """
        yield from ()

    @property
    def can_grow(self) -> bool:
        """Whether trainers may join later than others: a team may begin with fewer than it was made for.

        False, too, once the method is coming to its end, so that nobody new is of use.
        """
        return False

    def begin_with(self, members: int) -> None:
        """So many trainers are waited for at the start, at least one; others may join later, or never.

        Raises:
            ValueError: if the method's team cannot grow.
        """
        raise ValueError(f"the team of {type(self).__name__} cannot grow")

    @abstractmethod
    def join(self, member: int, space: Space) -> None:
        """A trainer is there and idle. Every member of a team brings the same space.

        Raises:
            SettingError: the first of the ``mistakes``.
        """

    @abstractmethod
    def leave(self, member: int) -> HyperStep | None:
        """A trainer is lost for good: nothing more is asked of it, and nobody waits for it.

        Returns:
            The hyper-step that its loss completed, where it was the last one that the others waited for.
        """

    @abstractmethod
    def ask(self) -> dict[int, WorkOrder]:
        """Orders for members that have none; empty while the method waits for reports."""

    @abstractmethod
    def tell(self, member: int, report: Report) -> HyperStep | None:
        """Takes the report of an order; returns the hyper-step that it completed, if it did."""

    @property
    @abstractmethod
    def done(self) -> bool:
        """True when there is nothing left to ask."""

    def results(self, reports: Mapping[int, Report]) -> dict[int, Report]:
        """Of the last reports of members those that hold what the method found; empty if it found nothing."""
        return {member: report for member, report in reports.items() if isinstance(report, Finished)}

    @abstractmethod
    def state_dict(self) -> dict[str, Any]: ...

    @abstractmethod
    def load_state_dict(self, state: Mapping[str, Any]) -> None: ...
