"""What travels inside a Tune result without being seen by those who print, log or save results."""

from __future__ import annotations

from typing import Any


class Opaque:
    """Holds anything, unseen; its ``repr`` is short because Tune formats every result, also when nobody reads it.

    >>> opaque = Opaque([0.0] * 1000)
    >>> opaque
    Opaque()
    >>> len(opaque.content)
    1000
    """

    __slots__ = ("content",)

    def __init__(self, content: Any) -> None:
        self.content = content

    def __repr__(self) -> str:
        return "Opaque()"

    def empty(self) -> None:
        """Lets go of the content, when it has been read and it is about to be saved."""
        self.content = None
