"""What a trial of a sweep can go on from: one of its checkpoints."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from selftune.schedulers.sweep.records import START, STEP


@dataclass(frozen=True)
class SavedTrial:
    """A checkpoint: its folder, and the training step at which it was saved."""

    step: int
    folder: Path


def start_of(trial: Any) -> SavedTrial | None:
    """What a trial goes on from if it starts now: its last checkpoint, or what it began with in this run."""
    found = trial.latest_checkpoint_result
    if found is not None:
        return SavedTrial(int(found.metrics[STEP]), Path(found.checkpoint.path))
    start = trial.config.get(START)
    return None if start is None else SavedTrial(start["step"], Path(start["folder"]))
