"""Says how far a long walk through data has come."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

T = TypeVar("T")

Say = Callable[[int, int], None]
"""Takes how many were looked at, and how many there are."""


def counted(things: Iterable[T], number: int, say: Say | None = None) -> Iterator[T]:
    """The same things; ``say`` is told after each.

    >>> list(counted("ab", 2, lambda done, of: print(done, "of", of)))
    1 of 2
    2 of 2
    ['a', 'b']
    """
    for position, thing in enumerate(things, 1):
        if say is not None:
            say(position, number)
        yield thing
