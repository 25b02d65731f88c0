"""Whole states of a trainer, kept by key: where later orders may start from, here or elsewhere."""

from __future__ import annotations

import copy
from collections.abc import Collection, Mapping
from typing import Any

from selftune.shapes import Tensor

State = Mapping[str, Any]


class KeptStates:
    """States by key. They are copies: training goes on without changing them.

    >>> import torch
    >>> kept, weights = KeptStates(), torch.zeros(1)
    >>> kept.keep("start", {"weights": weights})
    >>> weights += 1
    >>> kept.export("start")
    {'weights': tensor([0.])}
    """

    def __init__(self) -> None:
        self._states: dict[str, State] = {}

    def keep(self, key: str, state: State) -> None:
        self._states[key] = copy.deepcopy(state)

    def __contains__(self, key: str) -> bool:
        return key in self._states

    def get(self, key: str) -> State:
        """A copy of the state.

        Raises:
            KeyError: if there is none.
        """
        return copy.deepcopy(self._states[key])

    def retain(self, keys: Collection[str]) -> None:
        """Forgets all others."""
        self._states = {key: state for key, state in self._states.items() if key in keys}

    def export(self, key: str) -> State | None:
        """A copy on the CPU, for another process; None if there is none."""
        return _on_cpu(self.get(key)) if key in self else None

    def state_dict(self) -> dict[str, State]:
        return dict(self._states)

    def load_state_dict(self, states: Mapping[str, State]) -> None:
        self._states = copy.deepcopy(dict(states))


def _on_cpu(entry: Any) -> Any:
    """``entry`` with its tensors on the CPU, mappings and sequences inside it included."""
    if isinstance(entry, Tensor):
        return entry.cpu()
    if isinstance(entry, Mapping):
        return {key: _on_cpu(value) for key, value in entry.items()}
    if isinstance(entry, list | tuple):
        return type(entry)(_on_cpu(value) for value in entry)
    return entry
