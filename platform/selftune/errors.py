"""The error for a wrong setting, wherever it was written down, and the end of a run that was asked to stop."""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable

_SECTIONS = ("objective", "regularizers", "method", "budget", "trainers", "diagnostics")


class SettingError(ValueError):
    """A setting is wrong: ``key`` is its dotted path, ``message`` one sentence with the way out.

    >>> print(SettingError("regularizers.dropout.rate", "must be a number in [0, 0.95], got 2"))
    regularizers.dropout.rate: must be a number in [0, 0.95], got 2
    """

    def __init__(self, key: str, message: str) -> None:
        super().__init__(f"{key}: {message}" if key else message)
        self.key = key
        self.message = message

    def at_call(self) -> SettingError:
        """The same with the key as a call in Python has it, where settings are not in sections.

        >>> print(SettingError("method.warmup_steps", "is too large").at_call())
        warmup_steps: is too large
        """
        section, _, key = self.key.partition(".")
        if section in _SECTIONS and key:
            return SettingError("trainers" if self.key == "trainers.number" else key, self.message)
        return self

    def __reduce__(self) -> tuple[type[SettingError], tuple[str, str]]:
        return type(self), (self.key, self.message)  # raised on a worker, read on the driver


class Stopped(KeyboardInterrupt):
    """A run was asked to stop and has, in order: all that it did is kept, and it can be resumed.

    ``status`` is the exit status that says who asked: 0 for ``selftune stop``, 128 and its number for a signal.
    ``until`` is when what asked, a signal, ends its patience, by ``time.monotonic``; infinite where it has no end.

    >>> Stopped("after hyper-step 3").status
    0
    """

    def __init__(self, message: str = "", status: int = 0, until: float = math.inf) -> None:
        super().__init__(message)
        self.status = status
        self.until = until


class JobError(RuntimeError):
    """A Ray cluster elsewhere refuses, or cannot do what it is asked; the message says what to do.

    >>> str(JobError("http://head:8265: it asks for its token"))
    'http://head:8265: it asks for its token'
    """


def suggestion(name: str, known: Iterable[str]) -> str:
    """The end of a sentence about an unknown name: the close names, or all of them.

    >>> suggestion("droput", ["dropout", "mixup"])
    'did you mean dropout?'
    >>> suggestion("foo", ["dropout", "mixup"])
    'known are dropout, mixup'
    >>> suggestion("foo", [])
    'there are none'
    """
    known = sorted(known)
    if not known:
        return "there are none"
    close = difflib.get_close_matches(name, known, n=2)
    return f"did you mean {' or '.join(close)}?" if close else f"known are {', '.join(known)}"
