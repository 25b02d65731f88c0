"""The global random streams, so that an operation that is tried twice draws the same numbers the second time."""

from __future__ import annotations

import torch

from selftune.shapes import Tensor


def random_state() -> list[tuple[int | None, Tensor]]:
    """The state of the CPU's stream, and of each device's that has one."""
    devices = range(torch.cuda.device_count()) if torch.cuda.is_initialized() else ()  # type: ignore[no-untyped-call]
    return [(None, torch.get_rng_state()), *((index, torch.cuda.get_rng_state(index)) for index in devices)]


def restore(states: list[tuple[int | None, Tensor]]) -> None:
    for device, state in states:
        if device is None:
            torch.set_rng_state(state)
        else:
            torch.cuda.set_rng_state(state, device)
