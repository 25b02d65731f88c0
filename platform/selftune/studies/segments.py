"""Schedules as the method ``Replay`` takes them."""

from __future__ import annotations

import torch

from selftune.methods import Segment
from selftune.schedule import Schedule


def segments(schedule: Schedule) -> list[Segment]:
    """A schedule as replays follow it."""
    rows = torch.as_tensor(schedule.values).to(torch.get_default_dtype())
    return [Segment(int(end), row) for end, row in zip(schedule.ends, rows, strict=True)]
