"""Any method, by its name, as a Ray Tune scheduler."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, ClassVar, Literal

from selftune.errors import SettingError, suggestion
from selftune.fields import settings_of
from selftune.listener import Listener
from selftune.methods import Budget, Method
from selftune.methods.team_method import CANNOT_GROW
from selftune.schedulers.scheduler import BilevelScheduler
from selftune.schedulers.transport import TransportName
from selftune.training.method_record import NetworkForm, SmoothForm, methods

Shape = Literal["network", "smooth"]


class MethodScheduler(BilevelScheduler):
    """Drives a method that is known by its name, this package's or one that another package adds.

        scheduler = MethodScheduler("mine", steps=3000, team_size=2, learning_rate=0.05)

    Args:
        method: its name, as in study files.
        on: ``"network"`` or ``"smooth"``: what is tuned, for methods that do both; None takes networks first.
        steps, seconds, work: the budget, one of those that the method takes.
        team_size: trials that work together; None takes the smallest team that can.
        transport, listener, patience, at_least, hang_after: see ``BilevelScheduler``.
        settings: those of the method.

    Raises:
        SettingError: if a setting is unknown or out of its range, or the method refuses budget or team.

    >>> MethodScheduler("self_tuning", steps=3000, team_size=2, learning_rate=0.05).debug_string()
    '0 teams of 2'
    """

    def __init__(
        self,
        method: str,
        *,
        on: Shape | None = None,
        steps: int | None = None,
        seconds: float | None = None,
        work: int | None = None,
        team_size: int | None = None,
        transport: TransportName = "auto",
        listener: Callable[[int], Listener] | None = None,
        patience: float = 0.0,
        at_least: int | None = None,
        hang_after: float | None = None,
        **settings: Any,
    ) -> None:
        form = _form(method, on)
        for key, value in (("steps", steps), ("seconds", seconds), ("work", work)):
            if value is not None and key not in form.budgets:
                raise SettingError(key, f"is no budget of {method}; give {' or '.join(form.budgets)}")
        size = form.group_size if team_size is None else team_size
        made = partial(_made, method, on, Budget(steps, seconds, work), settings_of(form.settings, settings), size)
        machine = made()  # refuses what it cannot do before there is any trial
        if at_least is not None and not machine.can_grow:
            raise SettingError("at_least", CANNOT_GROW)
        super().__init__(
            made,
            size,
            transport=transport,
            listener=listener,
            patience=patience,
            at_least=at_least,
            hang_after=hang_after,
        )


class NetworkScheduler(MethodScheduler):
    """Base of the schedulers that are named after a method for networks.

    Args:
        steps, seconds: the budget, one of the two.
        team_size: trials that work together; None takes the smallest team that can.
        transport, listener, patience, at_least, hang_after: see ``BilevelScheduler``.
        settings: those of the method.

    Raises:
        SettingError: if a setting is unknown or out of its range, or the method refuses the team.
    """

    METHOD: ClassVar[str]

    def __init__(
        self,
        *,
        steps: int | None = None,
        seconds: float | None = None,
        team_size: int | None = None,
        transport: TransportName = "auto",
        listener: Callable[[int], Listener] | None = None,
        patience: float = 0.0,
        at_least: int | None = None,
        hang_after: float | None = None,
        **settings: Any,
    ) -> None:
        super().__init__(
            self.METHOD,
            on="network",
            steps=steps,
            seconds=seconds,
            team_size=team_size,
            transport=transport,
            listener=listener,
            patience=patience,
            at_least=at_least,
            hang_after=hang_after,
            **settings,
        )


def _form(method: str, on: Shape | None) -> NetworkForm | SmoothForm:
    if method not in methods:
        raise SettingError("method", f"unknown name {method!r}; {suggestion(method, methods.names())}")
    record = methods[method]
    form = record.network or record.smooth if on is None else getattr(record, on)
    if form is None:
        raise SettingError("on", f"must be {'smooth' if on == 'network' else 'network'}, which {method} is for")
    return form


def _made(method: str, on: Shape | None, budget: Budget, settings: Any, size: int) -> Method:
    """The state machine; by name, because a record may hold what cannot be pickled."""
    return _form(method, on).make(budget, settings, size)
