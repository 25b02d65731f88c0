"""What the schedulers of methods for networks share: a budget, a team, and the settings of the method."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, ClassVar

from selftune.fields import settings_of
from selftune.listener import Listener
from selftune.methods import Budget, Method
from selftune.schedulers.scheduler import BilevelScheduler
from selftune.schedulers.transport import TransportName


class NetworkScheduler(BilevelScheduler):
    """Base of schedulers whose method takes a ``Budget``, its settings and the size of the team.

    Args:
        steps, seconds: the budget, one of the two.
        team_size: trials that work together; None takes the smallest team that can.
        transport, listener, patience: see ``BilevelScheduler``.
        settings: those of the method.

    Raises:
        SettingError: if a setting is unknown or out of its range, or the method refuses the team.
    """

    METHOD: ClassVar[Callable[..., Method]]
    SETTINGS: ClassVar[type[Any]]
    SMALLEST_TEAM: ClassVar[int] = 1

    def __init__(
        self,
        *,
        steps: int | None = None,
        seconds: float | None = None,
        team_size: int | None = None,
        transport: TransportName = "auto",
        listener: Callable[[int], Listener] | None = None,
        patience: float = 0.0,
        **settings: Any,
    ) -> None:
        size = self.SMALLEST_TEAM if team_size is None else team_size
        method = partial(type(self).METHOD, Budget(steps, seconds), settings_of(self.SETTINGS, settings), size)
        method()  # refuses what it cannot do before there is any trial
        super().__init__(method, size, transport=transport, listener=listener, patience=patience)
