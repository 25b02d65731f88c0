"""The state of one of Tune's schedulers as bytes: everything it remembers, with trials by their ids."""

from __future__ import annotations

import io
import pickle
from collections.abc import Mapping
from typing import Any

from ray import cloudpickle
from ray.train._internal.session import _FutureTrainingResult
from ray.tune.experiment import Trial


class Unsaved:
    """Stands for a checkpoint that was being written when the state was saved."""


class Gone:
    """Stands for a trial that a scheduler remembers, but the snapshot beside it does not have."""

    def __init__(self, trial_id: str) -> None:
        self.trial_id = trial_id
        self.status = Trial.TERMINATED

    def is_finished(self) -> bool:
        return True


def scheduler_bytes(scheduler: Any, shared: Mapping[str, Any]) -> bytes:
    """What a scheduler remembers.

    Args:
        shared: objects by name that it refers to, and that are there when the state is read.
    """
    stream = io.BytesIO()
    names = {id(it): name for name, it in shared.items()} | {id(scheduler): "scheduler"}
    _Writer(stream, names).dump(scheduler.__dict__)  # type: ignore[no-untyped-call]
    return stream.getvalue()


def read_scheduler(
    scheduler: Any, state: bytes, trials: Mapping[str, Any], shared: Mapping[str, Any]
) -> list[Gone]:
    """Gives a scheduler its memory back.

    Args:
        trials: the experiment's trials by id.

    Returns:
        What stands for trials that are not among them.
    """
    reader = _Reader(io.BytesIO(state), trials, {**shared, "scheduler": scheduler})
    scheduler.__dict__.update(reader.load())
    return list(reader.gone.values())


class _Writer(cloudpickle.CloudPickler):
    def __init__(self, stream: io.BytesIO, shared: Mapping[int, str]) -> None:
        super().__init__(stream)  # type: ignore[no-untyped-call]
        self._shared = shared

    def persistent_id(self, found: Any) -> Any:
        if id(found) in self._shared:
            return "shared", self._shared[id(found)]
        if isinstance(found, Trial | Gone):
            return "trial", found.trial_id
        if isinstance(found, _FutureTrainingResult):
            return "unsaved", ""
        return None


class _Reader(pickle.Unpickler):
    def __init__(self, stream: io.BytesIO, trials: Mapping[str, Any], shared: Mapping[str, Any]) -> None:
        super().__init__(stream)
        self._trials = trials
        self._shared = shared
        self.gone: dict[str, Gone] = {}

    def persistent_load(self, pid: Any) -> Any:
        kind, name = pid
        if kind == "shared":
            return self._shared[name]
        if kind == "unsaved":
            return Unsaved()
        if name in self._trials:
            return self._trials[name]
        return self.gone.setdefault(name, Gone(name))
