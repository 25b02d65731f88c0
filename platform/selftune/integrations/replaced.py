"""Methods of single objects, replaced for a while."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

_ABSENT = object()


@contextmanager
def replaced(thing: object, name: str, make: Callable[[Callable[..., Any]], Callable[..., Any]]) -> Iterator[None]:
    """Puts another function in the place of a method of one object while the context lasts.

    Args:
        make: gives the replacement, from the method that is there.

    >>> class Greeter:
    ...     def greet(self):
    ...         return "hello"
    >>> greeter = Greeter()
    >>> with replaced(greeter, "greet", lambda greet: lambda: greet().upper()):
    ...     greeter.greet()
    'HELLO'
    >>> greeter.greet()
    'hello'
    """
    own = vars(thing).get(name, _ABSENT)
    setattr(thing, name, make(getattr(thing, name)))
    try:
        yield
    finally:
        if own is _ABSENT:
            delattr(thing, name)
        else:
            setattr(thing, name, own)
