"""Functions of users, called with what they ask for by name."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, TypeVar

T = TypeVar("T")


def call(function: Callable[..., T], *arguments: Any, **offered: Any) -> T:
    """Calls a function with arguments and with those offered by name that it has parameters for.

    >>> call(lambda member: member, 1, team=2)
    1
    >>> call(lambda member, team: (member, team), 1, team=2, config={})
    (1, 2)
    >>> call(lambda member, **more: sorted(more), 1, team=2, config={})
    ['config', 'team']
    """
    parameters = inspect.signature(function).parameters
    if not any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values()):
        offered = {name: value for name, value in offered.items() if name in parameters}
    return function(*arguments, **offered)
