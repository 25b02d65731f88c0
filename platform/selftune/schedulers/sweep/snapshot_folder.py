"""Ray Tune's snapshots, from which a killed sweep goes on."""

from __future__ import annotations

import json
import os
import pickle
import shutil
import stat
from pathlib import Path
from typing import Any

from ray import tune

from selftune.errors import SettingError
from selftune.schedulers.errors import SchedulerError


def check_private(place: Path) -> None:
    """Refuses a folder of Tune's that another user may have written: going on from it runs what its pickles say.

    Args:
        place: Tune's folder in the study's output folder.

    Raises:
        SettingError: with the folder or file and what to do.
    """
    for path in (place.parent, place, *place.glob("*.pkl"), *place.glob("*.json")):
        status = path.stat()
        shared = status.st_mode & stat.S_IWOTH or (status.st_mode & stat.S_IWGRP and status.st_gid != os.getgid())
        if shared or status.st_uid not in (os.getuid(), 0):
            raise SettingError(
                "",
                f"{path}: others may write here, and resuming on Ray runs code that it holds; if it is all"
                f" yours, `chmod -R go-w {place.parent}`",
            )


def has_snapshot(place: Path) -> bool:
    """Whether Tune's folder holds a state to go on from."""
    snapshots = sorted(place.glob("experiment_state-*.json"))
    if not snapshots or not tune.Tuner.can_restore(str(place)):
        return False
    try:
        json.loads(snapshots[-1].read_text())
    except json.JSONDecodeError:
        return False  # killed while it was written: starting anew gives the same trajectory
    return True


def goes_on(place: Path, resume: bool) -> bool:
    """Whether a run goes on from the snapshot in Tune's folder; what a run without one left there is removed.

    Args:
        resume: whether it may.

    Raises:
        SchedulerError: if there is a snapshot, and the run may not go on from it.
        SettingError: if others may have written it.
    """
    if not has_snapshot(place):
        if place.exists():
            shutil.rmtree(place)  # of a run that was killed before its first snapshot
        return False
    if not resume:
        raise SchedulerError(f"{place.parent} holds a run already: resume it, or choose another folder")
    check_private(place)
    return True


def restored(place: Path, worker: Any) -> tune.Tuner:
    """Tune's run of a folder, to go on with.

    Args:
        worker: the trainable, as it was given to the run.

    Raises:
        SchedulerError: if the snapshot is damaged, or another version of selftune or Ray wrote it.
    """
    try:
        return tune.Tuner.restore(str(place), worker, resume_unfinished=True)
    except (AttributeError, ImportError, EOFError, pickle.UnpicklingError) as error:
        raise SchedulerError(
            f"{place} is damaged, or was written by another version of selftune or Ray ({error}); go on with that"
            " version, or start anew in another folder"
        ) from error
