"""Who says what a training loop does next: a method in this process, or a team's scheduler elsewhere."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from selftune.errors import SettingError, suggestion
from selftune.fields import settings_of
from selftune.hyperparameters import Space
from selftune.methods import Budget, HyperStep, Report, WorkOrder
from selftune.methods.team_method import TeamMethod
from selftune.training.method_record import methods


class Steering(Protocol):
    """Gives a loop its orders."""

    trajectory: list[HyperStep]
    """The hyper-steps so far, as far as they are known here."""

    def exchange(self, report: Report | None) -> WorkOrder:
        """The next order, for the report of the last one; None brings the first."""

    def end(self, report: Callable[[], Report]) -> None:
        """Tuning ends; the report of that is made where somebody wants it."""

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state: Mapping[str, Any]) -> None: ...


@dataclass
class MethodSteering:
    """A method in this process, with one trainer.

    Attributes:
        method: it.
        trajectory: its hyper-steps.
    """

    method: TeamMethod
    trajectory: list[HyperStep] = field(default_factory=list)

    def exchange(self, report: Report | None) -> WorkOrder:
        if report is not None:
            step = self.method.tell(0, report)
            if step is not None:
                self.trajectory.append(step)
        return self.method.ask()[0]

    def end(self, report: Callable[[], Report]) -> None:
        """Nobody waits for it."""

    def state_dict(self) -> dict[str, Any]:
        return {"method": self.method.state_dict(), "trajectory": list(self.trajectory)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.method.load_state_dict(state["method"])
        self.trajectory = list(state["trajectory"])


def holds(name: str | None) -> bool:
    """Whether a method of this name leaves hyperparameters where they are, so that none needs to be tuned.

    >>> holds("held"), holds("self_tuning"), holds(None)
    (True, False, False)
    """
    form = methods[name].network if name is not None and name in methods else None
    return form is not None and not form.moves


def steering_of(name: str, steps: int | None, settings: Mapping[str, Any], space: Space) -> MethodSteering:
    """A method by name that tunes a loop.

    Args:
        steps: training steps of the run; None where nobody knows.

    Raises:
        SettingError: if the method is unknown or does not fit loops, or cannot tune these hyperparameters.
    """
    forms = {known: form for known in methods.names() if (form := methods[known].network) and form.fits_loops}
    if name not in forms:
        raise SettingError(
            "method",
            f"must be one that tunes a network while it is trained once, got {name!r};"
            f" {suggestion(str(name), forms)}",
        )
    chosen = settings_of(forms[name].settings, settings)
    unfit = forms[name].loop_mistake(chosen)
    if unfit is not None:
        raise unfit
    method = forms[name].make(Budget(steps=sys.maxsize if steps is None else steps), chosen, 1)
    for mistake in method.mistakes(space):
        raise mistake.at_call()
    method.join(0, space)
    return MethodSteering(method)
