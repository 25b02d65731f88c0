"""Iterators over what workers load, whose workers end at once when nobody wants them any more."""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from typing import Any


class Released(Iterator[Any]):
    """Another iterator, released before the garbage collector takes it apart.

    Where a data loader's iterator is part of a cycle, the collector closes the pipes to its workers first, and
    then waits five seconds for each of them.

    >>> next(Released(iter([3])))
    3
    """

    def __init__(self, iterator: Iterator[Any]) -> None:
        self._holder = [iterator]
        weakref.finalize(self, self._holder.clear)

    def __next__(self) -> Any:
        return next(self._holder[0])
