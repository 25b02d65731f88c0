"""Interrupting from outside: SIGTERM, which service managers and clusters send, does what Ctrl-C does.

While a run can finish what it has begun, its ``Driver`` answers SIGTERM instead.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class Interrupted(KeyboardInterrupt):
    """Ctrl-C or SIGTERM, in the midst of something; the message says how to go on."""


class Stop:
    """What stopped the command, as its exit status says it: 128 and the number of the signal."""

    status = 128 + signal.SIGINT


@contextmanager
def stoppable() -> Iterator[Stop]:
    """Within the context SIGTERM is Ctrl-C, whatever answers Ctrl-C at that time: Tune, for one, ends in order.

    Outside of the main thread, where Python hears no signals, nothing changes.
    """
    stop = Stop()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return

    def terminate(number: int, frame: FrameType | None) -> None:
        stop.status = 128 + number
        interrupt = signal.getsignal(signal.SIGINT)
        if not callable(interrupt):  # ignored, as in the background of a script
            raise KeyboardInterrupt
        interrupt(signal.SIGINT, frame)

    before = signal.signal(signal.SIGTERM, terminate)
    try:
        yield stop
    finally:
        signal.signal(signal.SIGTERM, before)
