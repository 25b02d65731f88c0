"""What differs between studies of networks and of smooth problems: a strategy for each, chosen here only.

Nothing of it needs more than torch and numpy until a study is displayed or leaves a folder.
"""

from __future__ import annotations

from typing import Any

from selftune.studies.strategies.network import NetworkStrategy
from selftune.studies.strategies.smooth import SmoothStrategy
from selftune.studies.strategies.strategy import Strategy

__all__ = ["STRATEGIES", "NetworkStrategy", "SmoothStrategy", "Strategy", "strategy_for", "strategy_of_task"]

STRATEGIES: tuple[type[Strategy], ...] = (NetworkStrategy, SmoothStrategy)


def strategy_for(objective: object) -> type[Strategy]:
    """The strategy of an objective.

    Raises:
        TypeError: if it is none.
    """
    for strategy in STRATEGIES:
        if isinstance(objective, strategy.objectives):
            return strategy
    raise TypeError(f"an objective is a NetworkObjective or a SmoothObjective, got {type(objective).__name__}")


def strategy_of_task(task: Any) -> type[Strategy]:
    """The strategy of what a registered task, a class or a function, makes; smooth where it does not say."""
    is_network = isinstance(task, type) and issubclass(task, NetworkStrategy.objectives)
    return NetworkStrategy if is_network else SmoothStrategy
