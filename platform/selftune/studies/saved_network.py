"""The trained networks of a study's folder: a file that selftune reads, and a module for use elsewhere."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import nn

from selftune.storage.files import replacing
from selftune.storage.state_file import load_state, save_state
from selftune.studies.mistakes import UserError

TUNED = "network"
KIND = "network"


def save_network(folder: Path, name: str, network: nn.Module) -> None:
    """Writes ``<name>.safetensors``, which selftune reads, and the module itself, a pickle, as ``<name>.pt``."""
    save_state(folder / f"{name}.safetensors", network.state_dict(), KIND)
    save_pickle(folder / f"{name}.pt", network)


def save_pickle(path: Path, value: Any) -> None:
    """Writes what ``torch.load`` reads.

    Raises:
        OSError: if it cannot be written.
    """
    with replacing(path) as temporary, temporary.open("wb") as file:
        try:
            torch.save(value, file)
        except RuntimeError as error:  # torch's own, in the place of what the system said
            if not isinstance(error.__context__, OSError):
                raise
            raise OSError(error.__context__.errno, error.__context__.strerror) from error


def read_network(folder: Path, name: str) -> dict[str, Any]:
    """The state of a network that ``save_network`` wrote; no code of the folder's runs.

    Raises:
        UserError: if there is none.
        DamagedFile: if it is not what was written.
    """
    path = folder / f"{name}.safetensors"
    try:
        state: dict[str, Any] = load_state(path, KIND)
    except FileNotFoundError as error:
        raise UserError(f"{path}: is missing; put back a copy of it, or run the study anew") from error
    return state
