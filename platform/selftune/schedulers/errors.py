"""What goes wrong between a method and Ray Tune, in one sentence."""

from __future__ import annotations


class SchedulerError(RuntimeError):
    """A study cannot run, or go on, on this Ray cluster; the message says what to do.

    >>> str(SchedulerError("asked for 2 gpus, the cluster has 0"))
    'asked for 2 gpus, the cluster has 0'
    """
