"""What goes wrong between a method and Ray Tune, in one sentence."""

from __future__ import annotations

from pathlib import Path


class SchedulerError(RuntimeError):
    """A study cannot run, or go on, on this Ray cluster; the message says what to do.

    >>> str(SchedulerError("asked for 2 gpus, the cluster has 0"))
    'asked for 2 gpus, the cluster has 0'
    """


def refuse_earlier(folder: Path, what: str) -> None:
    """Refuses the folder of a run that an earlier version began, which went on from what Ray Tune had saved.

    Args:
        what: a study or a sweep.

    Raises:
        SchedulerError: says what to do.
    """
    if any(folder.glob("experiment_state-*.json")):
        raise SchedulerError(
            f"{folder}: was written by an earlier version of selftune; go on with that one, or start the {what}"
            " anew in another folder"
        )
